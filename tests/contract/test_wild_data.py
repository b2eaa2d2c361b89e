"""Points 15 to 21 of what code made for detectron2 relies on: configs, datasets, evaluators, scripts, predictors.

Each test is written as such code is, down to its habits; the numbers are those of the list of contracts.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.config import CfgNode
from drivetrain.data import build_detection_test_loader, build_detection_train_loader
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.mapper import DatasetMapper
from drivetrain.engine import DefaultPredictor, DefaultTrainer, default_argument_parser, default_setup, launch
from drivetrain.errors import DatasetError
from drivetrain.evaluation import COCOEvaluator, inference_on_dataset, print_csv_format
from drivetrain.structures import Boxes, BoxMode, Instances

MakeCfg = Callable[..., Any]


def test_15_keys_and_values_as_people_assign_them(make_cfg: MakeCfg, tmp_path: Path) -> None:
    cfg = make_cfg("out", "SOLVER.CHECKPOINT_PERIOD=1")
    cfg.DATASETS.VAL = ("shapes_val",)
    cfg.WANDB = CfgNode()
    cfg.WANDB.PROJECT = "shapes"
    cfg.DATASETS.TRAIN = "shapes_train"
    cfg.DATASETS.TEST = "shapes_val"
    cfg.INPUT.MIN_SIZE_TRAIN = 64
    for steps in ([], (), (1,), (30_000,)):
        cfg.SOLVER.STEPS = steps
        other = cfg.clone()
        other.freeze()
        trainer = DefaultTrainer(other)
        assert trainer.cfg.DATASETS.VAL == ("shapes_val",) and trainer.cfg.WANDB.PROJECT == "shapes"
        assert set(trainer.train()) == {"bbox"}
    cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    cfg.freeze()
    assert DefaultPredictor(cfg)(np.zeros((40, 50, 3), np.uint8))["instances"].image_size == (40, 50)


class OwnCOCO(COCOEvaluator):
    """Adds a figure of its own to the results of each task."""

    def _derive_coco_results(self, coco_eval: Any, iou_type: str, class_names: Any = None) -> Any:
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        results["mine"] = 1.0 if coco_eval is None else 2.0
        return results


def test_16_a_config_where_tasks_are_expected(make_cfg: MakeCfg, tmp_path: Path) -> None:
    cfg = make_cfg()
    model = DefaultTrainer.build_model(cfg)
    for distributed in (True, False):
        evaluator = OwnCOCO("shapes_val", cfg, distributed, str(tmp_path / "inference"))
        loader = build_detection_test_loader(cfg, "shapes_val")
        results = inference_on_dataset(model, loader, evaluator)
        print_csv_format(results)
        assert set(results) == {"bbox"} and results["bbox"]["mine"] == 2.0
    assert (tmp_path / "inference" / "coco_instances_results.json").exists()
    assert COCOEvaluator("shapes_val", ("bbox",), False, output_dir=str(tmp_path)) is not None


def test_17_call_forms_of_the_loaders(make_cfg: MakeCfg) -> None:
    cfg = make_cfg()
    mapper = DatasetMapper(cfg, is_train=True)
    dicts = DatasetCatalog.get("shapes_train")
    loaders = [
        build_detection_train_loader(cfg),
        build_detection_train_loader(cfg, mapper=mapper, sampler=None),
        build_detection_train_loader(dataset=dicts, mapper=mapper, total_batch_size=2),
        build_detection_train_loader(dicts, mapper=mapper, num_workers=0, total_batch_size=2),
    ]
    for loader in loaders:
        batch = next(iter(loader))
        assert len(batch) == 2 and len(batch[0]["instances"]) > 0 and batch[0]["image"].dtype == torch.uint8
    tested = list(build_detection_test_loader(cfg, "shapes_val", DatasetMapper(cfg, False)))
    assert sum(len(batch) for batch in tested) == len(tested) == 4


def test_18_without_any_prediction_masks_have_their_results(make_cfg: MakeCfg) -> None:
    make_cfg()
    empty = {"pred_boxes": Boxes(torch.zeros(0, 4)), "scores": torch.zeros(0), "pred_classes": torch.zeros(0).long()}

    def nothing(inputs: Any) -> Any:
        return [{"instances": Instances((i["height"], i["width"]), **empty)} for i in inputs]

    loader = [[{"image_id": r["image_id"], "height": r["height"], "width": r["width"]}] for r in load("shapes_val")]
    results = inference_on_dataset(nothing, loader, COCOEvaluator("shapes_val", ("bbox", "segm"), False))
    assert math.isnan(results["segm"]["AP"]) and math.isnan(results["bbox"]["AP50"])


def load(name: str) -> list[dict[str, Any]]:
    return [dict(record) for record in DatasetCatalog.get(name)]


def train_script(args: Any) -> Any:
    """``main`` as in the original's ``tools/train_net.py``."""
    cfg = args.make_cfg()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    if args.eval_only:
        model = DefaultTrainer.build_model(cfg)
        return DefaultTrainer.test(cfg, model)
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def test_19_a_training_script(make_cfg: MakeCfg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = default_argument_parser()
    parser.add_argument("--wandb-name", default="")
    line = "--num-gpus 1 SOLVER.MAX_ITER 3 --wandb-name run1 SOLVER.BASE_LR=0.002 SOLVER.WEIGHT_DECAY_BIAS 1e-4"
    args = parser.parse_args(line.split())
    assert args.wandb_name == "run1" and isinstance(args.opts, list)
    if "SOLVER.BASE_LR" not in args.opts:
        args.opts.extend(["TEST.EVAL_PERIOD", "2"])
    assert args.opts[args.opts.index("SOLVER.MAX_ITER") + 1] == "3"
    args.make_cfg = make_cfg
    monkeypatch.setattr(sys, "argv", ["train_net.py", *line.split()])
    results = launch(
        train_script,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
    assert set(results) == {"bbox"}
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "train_net.py" in log and "SOLVER.MAX_ITER" in log
    args.eval_only = True
    assert set(launch(train_script, 1, args=(args,))) == {"bbox"}
    for anything in (argparse.Namespace(), {}, []):
        default_setup(make_cfg("again"), anything)
    assert (tmp_path / "again" / "config.yaml").exists()


def test_20_catalogs(make_cfg: MakeCfg) -> None:
    """A dataset that is a function in the script, and no file."""
    make_cfg()

    def get_dicts() -> list[dict[str, Any]]:
        dataset_dicts = []
        for idx, record in enumerate(load("shapes_val")):
            objs = [
                {"bbox": o["bbox"], "bbox_mode": BoxMode.XYWH_ABS, "category_id": o["category_id"]}
                | ({"segmentation": o["segmentation"]} if "segmentation" in o else {})
                for o in record["annotations"]
            ]
            shape = {"height": record["height"], "width": record["width"]}
            dataset_dicts.append({"file_name": record["file_name"], "image_id": idx, **shape, "annotations": objs})
        return dataset_dicts

    for d in ["train", "val"]:
        if "mine_" + d in DatasetCatalog.list():
            DatasetCatalog.remove("mine_" + d)
            MetadataCatalog.remove("mine_" + d)
        DatasetCatalog.register("mine_" + d, lambda d=d: get_dicts())
        MetadataCatalog.get("mine_" + d).set(thing_classes=["circle", "square", "triangle"])
        MetadataCatalog.get("mine_" + d).evaluator_type = "coco"
    metadata = MetadataCatalog.get("mine_train")
    metadata.thing_colors = [(255, 0, 0)] * 3
    assert metadata.name == "mine_train" and metadata.get("nothing", None) is None
    cfg = make_cfg("out", "SOLVER.MAX_ITER=1")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("mine_train",), ("mine_val",)
    results = DefaultTrainer(cfg).train()
    assert "AP-square" in results["bbox"]
    DatasetCatalog.remove("mine_train")
    MetadataCatalog.remove("mine_train")
    assert "mine_train" not in DatasetCatalog.list()
    with pytest.raises(DatasetError, match="mine_train"):
        DefaultTrainer(cfg)


def test_21_predictors(make_cfg: MakeCfg) -> None:
    cfg = make_cfg("out", "SOLVER.MAX_ITER=1", "DATASETS.TEST=('shapes_val',)")
    trainer = DefaultTrainer(cfg)
    trainer.train()
    cfg.MODEL.ROI_HEADS = CfgNode()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    predictor = DefaultPredictor(cfg)
    predictor.model.load_state_dict(trainer.model.state_dict())
    image = np.random.default_rng(0).integers(0, 255, (60, 70, 3)).astype(np.uint8)

    outputs = predictor(image)
    instances = outputs["instances"].to("cpu")
    assert isinstance(predictor.metadata.thing_classes, list) and predictor.cfg.MODEL.NUM_CLASSES == 3
    assert instances.image_size == (60, 70) and len(instances) > 1
    boxes = instances.pred_boxes.tensor.cpu().numpy()
    assert boxes.shape == (len(instances), 4)
    for i, box in enumerate(instances.pred_boxes):
        np.testing.assert_array_equal(box.cpu().numpy(), boxes[i])
        assert instances.pred_boxes[i].tensor.shape == (1, 4)
    kept = instances[instances.scores > float(instances.scores.median())]
    assert 0 < len(kept) < len(instances)
    assert set(instances.get_fields()) == {"pred_boxes", "scores", "pred_classes"}
    assert instances.has("scores") and instances.pred_classes.tolist()[0] in (0, 1, 2)

    class Batched(DefaultPredictor):
        """Subclasses repeat the call, to hand several images to the model."""

        def __call__(self, original_image: Any) -> Any:  # type: ignore[override]
            with torch.no_grad():
                if self.input_format == "RGB":
                    original_image = original_image[:, :, ::-1]
                height, width = original_image.shape[:2]
                picture = self.aug.get_transform(original_image).apply_image(original_image)  # type: ignore[attr-defined]
                tensor = torch.as_tensor(np.ascontiguousarray(picture.transpose(2, 0, 1)))
                return self.model([{"image": tensor, "height": height, "width": width}])[0]

    copied = Batched(cfg)
    copied.model.load_state_dict(trainer.model.state_dict())
    again = copied(image)["instances"]
    assert torch.equal(again.scores, outputs["instances"].scores)
