"""Loaders in lazy configs; that they load is tested with the script of test_lazy_common.py."""

from __future__ import annotations

from typing import Any

from drivetrain.compat import lazy_data
from drivetrain.compat.lazy import instantiate
from drivetrain.compat.lazy_targets import target_from_text
from drivetrain.compat.transforms import RandomFlip, ResizeShortestEdge
from drivetrain.data import DatasetCatalog, DatasetMapper, MetadataCatalog


def test_the_numbers_and_what_follows_from_others() -> None:
    dataloader = lazy_data.coco()
    assert (dataloader.train.total_batch_size, dataloader.test.dataset.filter_empty) == (16, False)
    assert {dataloader.train.dataset.names, dataloader.test.dataset.names} <= set(DatasetCatalog.list())
    dataloader.train.mapper.image_format = "RGB"
    dataloader.test.dataset.names = "mine"
    mapper = instantiate(dataloader.test.mapper)
    assert isinstance(mapper, DatasetMapper) and mapper.image_format == "RGB"
    assert dataloader.evaluator.dataset_name == "mine"
    resize, flip = instantiate(dataloader.train.mapper.augmentations)
    assert isinstance(resize, ResizeShortestEdge) and isinstance(flip, RandomFlip)
    assert dict(dataloader.train.mapper.augmentations[0], _target_=None) == {
        "_target_": None,
        "short_edge_length": (640, 672, 704, 736, 768, 800),
        "sample_style": "choice",
        "max_size": 1333,
    }
    (whole,) = dataloader.test.mapper.augmentations
    assert (whole.short_edge_length, whole.max_size) == (800, 1333)
    assert (dataloader.train.mapper.is_train, dataloader.test.mapper.is_train) == (True, False)
    assert (
        dataloader.train.num_workers == dataloader.test.num_workers == 4 and dataloader.train.mapper.use_instance_mask
    )
    assert lazy_data.coco().train.mapper.image_format == "BGR"


def test_persons_with_keypoints() -> None:
    dataloader = lazy_data.coco_keypoint()
    dataloader.train.dataset.names = "lazy_persons"
    flips = dataloader.train.mapper.keypoint_hflip_indices
    try:
        DatasetCatalog.register("lazy_persons", list)
        pairs: Any = [("left", "right")]
        MetadataCatalog.get("lazy_persons").set(keypoint_names=["nose", "left", "right"], keypoint_flip_map=pairs)
        assert instantiate(flips) == [0, 2, 1]
    finally:
        DatasetCatalog.remove("lazy_persons")
        MetadataCatalog.remove("lazy_persons")
    assert dataloader.train.dataset.min_keypoints == 1
    assert dataloader.train.mapper.use_keypoint and not dataloader.train.mapper.use_instance_mask


def test_a_text_may_name_what_they_are_made_of() -> None:
    assert target_from_text("drivetrain.compat.lazy_data.flip_indices") is lazy_data.flip_indices
    assert target_from_text("drivetrain.compat.transforms_random.RandomFlip") is RandomFlip
