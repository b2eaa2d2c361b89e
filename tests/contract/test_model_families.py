"""Every family of models from the data of its task to a drawing: trained by a config alone, evaluated, predicting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.synthetic import (
    make_synthetic,
    make_synthetic_classification,
    make_synthetic_panoptic,
    make_synthetic_segmentation,
)
from drivetrain.data.images import read_image
from drivetrain.engine.defaults import DefaultPredictor, DefaultTrainer, get_cfg
from drivetrain.modeling import check_outputs
from drivetrain.runtime.seeding import seed_all_rng
from drivetrain.structures import rle_to_bitmask
from drivetrain.visualization import draw_output

WIDTH, HEIGHT = 80, 64
SMALL = (
    "MODEL.DEVICE=cpu",
    "MODEL.SCORE_THRESH_TEST=0.0",
    "INPUT.MIN_SIZE_TRAIN=(64,)",
    "INPUT.MIN_SIZE_TEST=48",  # so that an output has to be brought back to the image's own size
    "TEST.DETECTIONS_PER_IMAGE=10",
    "TEST.EVAL_PERIOD=0",
    "DATALOADER.NUM_WORKERS=0",
    "SOLVER.IMS_PER_BATCH=2",
    "SOLVER.MAX_ITER=2",
    "SOLVER.BASE_LR=1e-4",
)
FEW_QUERIES = "MODEL.TRANSFORMERS.CONFIG={num_queries: 10}"
WHOLE = ("INPUT.RESIZE=fixed", "INPUT.SIZE=(160,160)")

FAMILIES: list[Any] = [
    ("coco", "fcos_tiny"),
    ("coco", "mask_rcnn_tiny", "TEST.MASK_FORMAT=rle"),
    ("coco", "keypoint_rcnn_tiny", "TEST.KEYPOINT_OKS_SIGMAS=[0.05,0.05,0.05,0.05]"),
    ("coco", "dfine_tiny"),
    ("coco", "mask2former_tiny"),
    ("sem_seg", "lraspp_tiny"),
    ("sem_seg", "segformer_tiny"),
    ("panoptic", "mask2former_panoptic_tiny"),
    ("folder", "torchvision/squeezenet1_1"),
    ("folder", "timm/test_vit", *WHOLE),
    ("folder", "vit_tiny"),
]
MORE: list[Any] = [
    *(("coco", name) for name in ("retinanet_tiny", "faster_rcnn_tiny", "ssd_tiny", "ssdlite", "mask_rcnn_tiny")),
    ("coco", "rt_detr_v2_tiny"),
    ("coco", "mask2former_tiny", "TEST.MASK_FORMAT=rle"),
    *(("sem_seg", name) for name in ("mask2former_semantic_tiny", "upernet_tiny")),
    ("folder", "classifier_tiny"),
    # At the libraries' own sizes.
    *(("sem_seg", name) for name in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")),
    *(("coco", name, FEW_QUERIES) for name in ("detr", "deformable_detr", "rf_detr")),
]
FIGURES = {
    "coco": ("bbox", "AP"),
    "sem_seg": ("sem_seg", "mIoU"),
    "panoptic": ("panoptic_seg", "PQ"),
    "folder": ("classification", "top1"),
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], ...]]:
    """Format -> the entries of DATASETS.REGISTER for the training and the test images."""
    root = tmp_path_factory.mktemp("shapes")
    many: Any = {"train": 4, "val": 3, "size": (WIDTH, HEIGHT), "seed": 2}
    coco = make_synthetic(root / "coco", **many)
    maps = make_synthetic_segmentation(root / "maps", **many)
    panoptic = make_synthetic_panoptic(root / "panoptic", **many)
    classes = make_synthetic_classification(root / "classes", **many)
    names = {"format": "sem_seg", "classes": list(maps.class_names)}
    pngs = {"format": "coco_panoptic"}
    return {
        "coco": (
            {"json": coco.train_json, "images": coco.train_images},
            {"json": coco.val_json, "images": coco.val_images},
        ),
        "sem_seg": (
            {**names, "images": maps.train_images, "labels": maps.train_labels},
            {**names, "images": maps.val_images, "labels": maps.val_labels},
        ),
        "panoptic": (
            {**pngs, "json": panoptic.train_json, "images": panoptic.train_images, "labels": panoptic.train_panoptic},
            {**pngs, "json": panoptic.val_json, "images": panoptic.val_images, "labels": panoptic.val_panoptic},
        ),
        "folder": ({"format": "folder", "images": classes.train}, {"format": "folder", "images": classes.val}),
    }


def check_form(output: dict[str, Any], kind: str, classes: int, keys: tuple[str, ...]) -> None:
    """Check one image's output against the contract."""
    if kind == "sem_seg":
        assert output["sem_seg"].shape == (classes, HEIGHT, WIDTH) and output["sem_seg"].dtype == torch.float32
    elif kind == "folder":
        assert output["classes"].shape == (classes,)
        assert output["classes"].sum().item() == pytest.approx(1, abs=1e-5)
    elif kind == "panoptic":
        ids, segments = output["panoptic_seg"]
        assert ids.shape == (HEIGHT, WIDTH) and ids.dtype == torch.int32
        assert set(ids.unique().tolist()) <= {0, *(segment["id"] for segment in segments)}
    else:
        found = output["instances"]
        assert found.image_size == (HEIGHT, WIDTH) and 0 < len(found) <= 10
        boxes = found.pred_boxes.tensor
        assert (boxes >= 0).all() and (boxes <= torch.tensor([WIDTH, HEIGHT] * 2)).all()
        assert (found.scores.diff() <= 0).all() and set(found.pred_classes.tolist()) <= set(range(classes))
        assert ("pred_keypoints" in found.get_fields()) == ("keypoints" in keys)
        assert ("pred_masks" in found.get_fields()) == ("masks" in keys)
        if "keypoints" in keys:
            assert found.pred_keypoints.shape == (len(found), 4, 3)
        if "masks" in keys and isinstance(found.pred_masks, list):
            assert [rle_to_bitmask(mask).shape for mask in found.pred_masks] == [(HEIGHT, WIDTH)] * len(found)
        elif "masks" in keys:
            assert found.pred_masks.shape == (len(found), HEIGHT, WIDTH) and found.pred_masks.dtype == torch.bool


@pytest.mark.parametrize(
    "family", [*FAMILIES, *(pytest.param(f, marks=pytest.mark.slow) for f in MORE)], ids=lambda f: "-".join(f[1:])
)
def test_from_data_to_a_drawing(
    family: tuple[str, ...], datasets: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, name, *options = family
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, f"OUTPUT_DIR={tmp_path}", f"MODEL.NAME={name}", *options])
    cfg.DATASETS.REGISTER = dict(zip(("shapes_train", "shapes_val"), datasets[kind], strict=True))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("shapes_train",), ("shapes_val",)
    seed_all_rng(1)
    trainer = DefaultTrainer(cfg)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    results = trainer.train()
    task, figure = FIGURES[kind]
    assert 0 <= results[task][figure] <= 100
    changed = {key for key, value in trainer.model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed, "the steps changed nothing"

    predictor = DefaultPredictor.from_checkpoint(tmp_path / "model_final.pth", ["MODEL.DEVICE=cpu"])
    record = DatasetCatalog.get("shapes_val")[0]
    output = predictor(record["file_name"])
    check_outputs([output], [record])
    check_form(output, kind, trainer.cfg.MODEL.NUM_CLASSES, tuple(trainer.cfg.MODEL.TARGETS))
    image = read_image(record["file_name"], "RGB")
    names = MetadataCatalog.get("shapes_val").as_dict()
    drawn = draw_output(
        image, output, names.get("stuff_classes") or names["thing_classes"], score_threshold=0.0, min_side=0
    )
    assert drawn.shape == image.shape
    if kind != "panoptic" or output["panoptic_seg"][1]:  # whose segments may all be unlikely
        assert np.any(drawn != image)
