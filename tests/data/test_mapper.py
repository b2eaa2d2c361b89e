"""From a record to what a model takes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.data.catalog import MetadataCatalog
from drivetrain.data.mapper import DatasetMapper, image_to_tensor
from drivetrain.data.randomness import generator
from drivetrain.data.transforms import FlipTransform, RandomCrop, RandomFlip, ResizeShortestEdge
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError, DatasetError
from drivetrain.structures import BoxMode


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return {
        "file_name": str(tmp_path / "a.png"),
        "image_id": 7,
        "height": 20,
        "width": 30,
        "split": "own key",
        "annotations": [{"bbox": [4, 4, 6, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 2}],
    }


def pixels_of(record: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(record["file_name"]))


def test_training_sample(record: dict[str, Any]) -> None:
    before = copy.deepcopy(record)
    sample = DatasetMapper(True, augmentations=[FlipTransform((20, 30))], image_format="RGB")(record)
    assert record == before
    assert sample["image"].dtype == torch.uint8 and sample["image"].is_contiguous()
    assert (sample["image"].numpy() == pixels_of(record)[:, ::-1].transpose(2, 0, 1)).all()
    assert sample["instances"].gt_boxes.tensor.tolist() == [[20, 4, 26, 8]]
    assert {k: sample[k] for k in ("image_id", "height", "width", "split")} == {
        "image_id": 7,
        "height": 20,
        "width": 30,
        "split": "own key",
    }
    assert "annotations" not in sample


def test_channel_orders(record: dict[str, Any]) -> None:
    def image(order: str) -> np.ndarray:
        return DatasetMapper(False, augmentations=[], image_format=order)(record)["image"].numpy()

    assert (image("BGR") == image("RGB")[::-1]).all()
    assert image("L").shape == (1, 20, 30)


def test_evaluation_sample_keeps_the_original_size(record: dict[str, Any]) -> None:
    sample = DatasetMapper(False, augmentations=[ResizeShortestEdge(10)], image_format="RGB")(record)
    assert tuple(sample["image"].shape) == (3, 10, 15) and (sample["height"], sample["width"]) == (20, 30)
    assert "instances" not in sample and "annotations" not in sample
    del record["height"], record["width"]
    sample = DatasetMapper(False, augmentations=[ResizeShortestEdge(10)], image_format="RGB")(record)
    assert (sample["height"], sample["width"]) == (20, 30)


def test_from_a_config(record: dict[str, Any]) -> None:
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)
    cfg.INPUT.MIN_SIZE_TEST = 10
    cfg.INPUT.FORMAT = "BGR"
    cfg.INPUT.RANDOM_FLIP = "none"
    for mapper in (DatasetMapper(cfg), DatasetMapper(cfg, True), DatasetMapper(cfg, is_train=True)):
        sample = mapper(record)
        assert tuple(sample["image"].shape) == (3, 40, 60)
        assert sample["instances"].gt_boxes.tensor.tolist() == [[8, 8, 20, 16]]
    test = DatasetMapper(cfg, False)
    assert not test.is_train and test.image_format == "BGR" and not hasattr(test(record), "instances")
    assert tuple(test(record)["image"].shape) == (3, 10, 15)
    parts = DatasetMapper.from_config(cfg, False)
    assert tuple(DatasetMapper(**parts)(record)["image"].shape) == (3, 10, 15)


def test_keypoint_sides_come_from_the_metadata() -> None:
    MetadataCatalog.get("mapper_test").set(
        keypoint_names=["nose", "left", "right"], keypoint_flip_map=[("left", "right")]
    )
    try:
        cfg = get_cfg()
        cfg.MODEL.KEYPOINT_ON = True
        cfg.DATASETS.TRAIN = ("mapper_test",)
        assert DatasetMapper(cfg).keypoint_flip_indices == [0, 2, 1]
    finally:
        MetadataCatalog.remove("mapper_test")


def test_a_subclass_as_in_detectron2(record: dict[str, Any]) -> None:
    class Mine(DatasetMapper):
        def __init__(self, cfg: Any, is_train: bool = True) -> None:
            super().__init__(cfg, is_train)

        def __call__(self, record: Any) -> Any:  # type: ignore[override]
            return super().__call__(record)["image"].shape

    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)
    mapper = Mine(cfg, True)
    assert tuple(mapper(record)) == (3, 40, 60) and not mapper.pure


def test_randomness_comes_from_the_generator_or_from_numpy(record: dict[str, Any]) -> None:
    mapper = DatasetMapper(True, augmentations=[RandomCrop("relative", (0.5, 0.5)), RandomFlip()], image_format="RGB")
    assert mapper.pure

    def image(*args: Any) -> bytes:
        return mapper(record, *args)["image"].numpy().tobytes()

    assert image(generator(1, 2)) == image(generator(1, 2))
    assert len({image(generator(1, p)) for p in range(10)}) > 5
    np.random.seed(0)
    first = image()
    np.random.seed(0)
    assert image() == first and len({image() for _ in range(10)}) > 5


def test_masks_and_keypoints(record: dict[str, Any]) -> None:
    (annotation,) = record["annotations"]
    annotation["segmentation"] = [[4.0, 4.0, 10.0, 4.0, 10.0, 8.0]]
    annotation["keypoints"] = [5.0, 5.0, 2.0]
    options = {"augmentations": [], "image_format": "RGB", "use_instance_mask": True, "use_keypoint": True}
    instances = DatasetMapper(True, **options)(record)["instances"]
    assert instances.gt_masks.polygons[0][0].tolist() == annotation["segmentation"][0]
    assert instances.gt_keypoints.tensor.tolist() == [[[5, 5, 2]]]
    instances = DatasetMapper(True, instance_mask_format="bitmask", **options)(record)["instances"]
    assert instances.gt_masks.tensor.shape == (1, 20, 30)


def test_image_to_tensor_of_any_layout() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    wanted = image.transpose(2, 0, 1)
    for given in (
        image,
        np.asfortranarray(image),
        image[:, ::-1][:, ::-1],
        torch.from_numpy(image).permute(2, 0, 1),
        torch.from_numpy(wanted.copy()),
    ):
        out = image_to_tensor(given)
        assert out.is_contiguous() and (out.numpy() == wanted).all()
    assert image_to_tensor(image[:, :, 0].copy()).shape == (1, 5, 7)
    assert (image_to_tensor(image[:, :, ::-1]).numpy() == wanted[::-1]).all()


def test_bad_input(record: dict[str, Any], tmp_path: Path) -> None:
    from torchvision.transforms import v2

    mapper = DatasetMapper(True, augmentations=[], image_format="RGB")
    with pytest.raises(DatasetError, match=r"a\.png.*30 x 20.*31 x 20"):
        mapper({**record, "width": 31})
    with pytest.raises(DatasetError, match=r"missing\.png"):
        mapper({**record, "file_name": str(tmp_path / "missing.png")})
    with pytest.raises(DatasetError, match=r"a\.png: .*bbox"):
        mapper({**record, "annotations": [{"category_id": 1}]})
    to_float = DatasetMapper(True, augmentations=[v2.ToDtype(torch.float32, scale=True)], image_format="RGB")
    with pytest.raises(ConfigError, match=r"torch.float32 image"):
        to_float(record)
    with pytest.raises(ConfigError, match=r"MASK_FORMAT.*'rle'"):
        DatasetMapper(True, augmentations=[], image_format="RGB", instance_mask_format="rle")
    with pytest.raises(ConfigError, match="use_instance_mask"):
        DatasetMapper(True, augmentations=[], image_format="RGB", recompute_boxes=True)
