"""From a record to what a model takes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.config import CfgNode
from drivetrain.data.catalog import MetadataCatalog
from drivetrain.data.images import ImageFile
from drivetrain.data.mapper import DatasetMapper
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
    assert sample["image"].dtype == torch.uint8 and sample["image"].shape == (3, 20, 30)
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
        assert DatasetMapper(cfg).keypoint_hflip_indices == [0, 2, 1]
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


@pytest.fixture
def photo(tmp_path: Path) -> dict[str, Any]:
    y, x = np.mgrid[0:240, 0:320]
    waves = [np.sin(x / (9 + c)) * np.cos(y / (7 + c)) * 100 + 128 for c in range(3)]
    Image.fromarray(np.stack(waves, axis=2).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    annotation = {"bbox": [30.5, 40.25, 100, 60], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}
    return {"file_name": str(tmp_path / "a.jpg"), "height": 240, "width": 320, "annotations": [annotation]}


@pytest.mark.parametrize("resize", [ResizeShortestEdge(100), ResizeShortestEdge(300)])
@pytest.mark.parametrize("others", [[], [FlipTransform((100, 133))], [FlipTransform((300, 400))]])
def test_pixels_are_those_of_pillow_within_one_level(photo: dict[str, Any], resize: Any, others: list[Any]) -> None:
    """The antialiased bilinear filters of Pillow and torchvision round differently."""
    size = (100, 133) if resize.sizes == (100,) else (300, 400)
    others = [flip for flip in others if flip.input_size == size]
    sample = DatasetMapper(True, augmentations=[resize, *others], image_format="BGR")(photo)
    expected = Image.open(photo["file_name"]).resize(size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(expected)[:, :: -1 if others else 1, ::-1].transpose(2, 0, 1).astype(int)
    assert sample["image"].stride() == (1, 3 * size[1], 3) and sample["image"].shape == pixels.shape
    difference = np.abs(sample["image"].numpy() - pixels)
    assert difference.max() <= 1 and difference.mean() < 0.02


def test_scaled_decoding_changes_pixels_a_little_and_boxes_not_at_all(
    photo: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    tensor = ImageFile.tensor

    def spy(file: ImageFile, at_least: Any = None) -> torch.Tensor:
        decoded.append(tensor(file, at_least))
        return decoded[-1]

    monkeypatch.setattr(ImageFile, "tensor", spy)
    augmentations = [ResizeShortestEdge((40, 100, 133, 134, 200), 1000), RandomFlip()]
    exact, scaled = (
        DatasetMapper(True, augmentations=augmentations, image_format="RGB", scaled_decode=on) for on in (False, True)
    )
    sizes = set()
    for position in range(24):
        whole, quick = (mapper(photo, generator(3, position)) for mapper in (exact, scaled))
        assert whole["image"].shape == quick["image"].shape and quick["image"].stride() == whole["image"].stride()
        assert torch.equal(whole["instances"].gt_boxes.tensor, quick["instances"].gt_boxes.tensor)
        assert (quick["height"], quick["width"]) == (240, 320)
        before, after = decoded[-2:]
        assert tuple(before.shape) == (3, 240, 320)
        difference = (whole["image"].int() - quick["image"].int()).abs()
        assert (difference.max() == 0) == (after.shape == before.shape)
        assert difference.float().mean() < 2 and difference.max() < 12
        again = scaled(photo, generator(3, position))
        assert torch.equal(again["image"], quick["image"])
        sizes.add((quick["image"].shape[1], after.shape[1]))
    assert sizes == {(40, 60), (100, 120), (133, 120), (134, 240), (200, 240)}  # a tenth less than wanted will do


def test_scaled_decoding_is_asked_for_by_a_key(photo: dict[str, Any]) -> None:
    cfg = get_cfg()
    assert not DatasetMapper(cfg).scaled_decode
    section = CfgNode({**cfg.INPUT, "SCALED_DECODE": True})
    assert DatasetMapper.from_config(CfgNode({**cfg, "INPUT": section}))["scaled_decode"]


def test_what_is_not_resized_first_is_decoded_whole(photo: dict[str, Any]) -> None:
    augmentations = [RandomCrop("relative", (0.5, 0.5)), ResizeShortestEdge(30)]
    exact, scaled = (
        DatasetMapper(True, augmentations=augmentations, image_format="RGB", scaled_decode=on) for on in (False, True)
    )
    assert torch.equal(exact(photo, generator(1, 1))["image"], scaled(photo, generator(1, 1))["image"])


def test_boxes_are_known_to_augmentations_that_look_at_them(record: dict[str, Any]) -> None:
    seen = []

    class Looks(RandomFlip):
        needs_boxes = True

        def draw_around(self, rng: Any, height: int, width: int, boxes: Any) -> Any:
            seen.append(boxes.tolist())
            return self.draw(rng, height, width)

    mapper = DatasetMapper(True, augmentations=[Looks()], image_format="RGB")
    crowd = {**record["annotations"][0], "iscrowd": 1}
    mapper({**record, "annotations": [*record["annotations"], crowd]})
    assert seen == [[[4, 4, 10, 8]]]
    with pytest.raises(DatasetError, match=r"a\.png: .*bbox"):
        mapper({**record, "annotations": [{"category_id": 1}]})


def test_a_subclass_adds_targets(record: dict[str, Any]) -> None:
    class WithArea(DatasetMapper):
        def make_targets(self, record: Any, transform: Any) -> dict[str, Any]:
            return {**super().make_targets(record, transform), "area": transform.output_size}

    sample = WithArea(True, augmentations=[ResizeShortestEdge(10)], image_format="RGB")(record)
    assert sample["area"] == (10, 15) and len(sample["instances"]) == 1
    assert "area" not in WithArea(False, augmentations=[], image_format="RGB")(record)


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


def segmented(record: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    labels = np.zeros((20, 30), dtype=np.uint8)
    labels[:, 15:], labels[:5] = 1, 7
    Image.fromarray(labels).save(tmp_path / "labels.png")
    return {**record, "sem_seg_file_name": str(tmp_path / "labels.png")}


def test_label_maps_go_with_the_image(record: dict[str, Any], tmp_path: Path) -> None:
    flip = [FlipTransform((20, 30))]
    mapper = DatasetMapper(True, augmentations=flip, image_format="RGB", segmentation="sem_seg", ignore_label=7)
    labels = mapper(segmented(record, tmp_path))["sem_seg"]
    assert labels.dtype == torch.int64 and labels.shape == (20, 30)
    assert (labels[:5] == 255).all() and (labels[5:, :15] == 1).all() and (labels[5:, 15:] == 0).all()
    test = DatasetMapper(False, augmentations=[], image_format="RGB", segmentation="sem_seg")
    assert "sem_seg" not in test(segmented(record, tmp_path))
    with pytest.raises(DatasetError, match="no 'sem_seg_file_name'"):
        mapper(record)
    with pytest.raises(ConfigError, match="segmentation must be None or one of sem_seg, panoptic, not 'semantic'"):
        DatasetMapper(True, augmentations=[], image_format="RGB", segmentation="semantic")


def test_segments_are_instances(record: dict[str, Any], tmp_path: Path) -> None:
    ids = np.zeros((20, 30, 3), dtype=np.uint8)
    ids[:, 10:, 0], ids[8:, :, 1] = 3, 1
    Image.fromarray(ids).save(tmp_path / "panoptic.png")
    segments = [{"id": 3, "category_id": 4, "isthing": True}, {"id": 256, "category_id": 2, "isthing": False}]
    panoptic = {**record, "pan_seg_file_name": str(tmp_path / "panoptic.png"), "segments_info": segments}
    mapper = DatasetMapper(True, augmentations=[], image_format="RGB", segmentation="panoptic")
    instances = mapper(panoptic)["instances"]
    assert instances.gt_classes.tolist() == [4, 2] and instances.gt_masks.area().tolist() == [160, 120]


def test_what_a_config_says_of_targets() -> None:
    cfg = get_cfg()
    cfg.MODEL.TARGETS = ("boxes", "masks")
    assert DatasetMapper(cfg).use_instance_mask and not DatasetMapper(cfg).use_keypoint
    cfg.MODEL.TARGETS = ("sem_seg",)
    assert DatasetMapper(cfg).segmentation == "sem_seg" and not DatasetMapper(cfg).use_instance_mask


def test_augmentations_of_detectron2s_kind_beside_a_config(tmp_path: Path) -> None:
    """Given augmentations count instead of the config's; those that look at the pixels see the image at that place."""
    from drivetrain.compat import transforms as T
    from drivetrain.engine.defaults import get_cfg

    class Darken(T.Augmentation):
        def get_transform(self, image: Any) -> T.Transform:  # type: ignore[override]
            assert image.shape == (48, 64, 3)
            return T.BlendTransform(src_image=0, src_weight=0.5, dst_weight=0.5)

    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cfg = get_cfg()
    augmentations = [T.ResizeShortestEdge([48], 96, "choice"), Darken(), T.RandomFlip(1.0)]
    mapper = DatasetMapper(cfg, is_train=False, augmentations=augmentations)
    image = mapper({"file_name": str(tmp_path / "a.png")})["image"].permute(1, 2, 0).numpy()
    order = -1 if cfg.INPUT.FORMAT == "BGR" else 1
    half = T.ResizeTransform(96, 128, 48, 64).apply_image(pixels)[:, ::-1, ::order] // 2
    assert image.shape == half.shape and abs(image.astype(int) - half).max() <= 1
