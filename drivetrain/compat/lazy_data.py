"""detectron2's loaders and evaluators of COCO as lazy configs describe them."""

from __future__ import annotations

from collections.abc import Sequence

from drivetrain.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from drivetrain.evaluation import COCOEvaluator

from . import transforms
from .builtin_datasets import register_builtin
from .detection_utils import create_keypoint_hflip_indices
from .lazy import LazyCall
from .lazy_nodes import LazyNode

__all__ = ["coco", "coco_keypoint", "flip_indices"]


def coco() -> LazyNode:
    """``train``, ``test`` and ``evaluator`` for COCO's objects, with images as detectron2 resizes them.

    The datasets that it names are registered, if they are not yet; see :mod:`drivetrain.compat.builtin_datasets`.
    """
    register_builtin()
    train_sizes = {"short_edge_length": (640, 672, 704, 736, 768, 800), "sample_style": "choice", "max_size": 1333}
    train = LazyCall(build_detection_train_loader)(
        dataset=LazyCall(get_detection_dataset_dicts)(names="coco_2017_train"),
        mapper=LazyCall(DatasetMapper)(
            is_train=True,
            augmentations=[
                LazyCall(transforms.ResizeShortestEdge)(**train_sizes),
                LazyCall(transforms.RandomFlip)(horizontal=True),
            ],
            image_format="BGR",
            use_instance_mask=True,
        ),
        total_batch_size=16,
        num_workers=4,
    )
    test = LazyCall(build_detection_test_loader)(
        dataset=LazyCall(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
        mapper=LazyCall(DatasetMapper)(
            is_train=False,
            augmentations=[LazyCall(transforms.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
            image_format="${...train.mapper.image_format}",
        ),
        num_workers=4,
    )
    return LazyNode(train=train, test=test, evaluator=LazyCall(COCOEvaluator)(dataset_name="${..test.dataset.names}"))


def coco_keypoint() -> LazyNode:
    """The same for COCO's persons."""
    dataloader = coco()
    dataloader.train.dataset.update(names="keypoints_coco_2017_train", min_keypoints=1)
    dataloader.test.dataset.names = "keypoints_coco_2017_val"
    dataloader.train.mapper.update(
        use_instance_mask=False,
        use_keypoint=True,
        keypoint_hflip_indices=LazyCall(flip_indices)(names="${...dataset.names}"),
    )
    return dataloader


def flip_indices(names: str | Sequence[str]) -> list[int]:
    """For each keypoint of registered datasets the index of its counterpart on the other side."""
    return create_keypoint_hflip_indices(names)
