"""What targets and predictions look like: boxes, masks, keypoints, the instances that hold them, image batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .boxes import Boxes as Boxes
    from .boxes import BoxMode as BoxMode
    from .boxes import matched_pairwise_iou as matched_pairwise_iou
    from .boxes import pairwise_intersection as pairwise_intersection
    from .boxes import pairwise_ioa as pairwise_ioa
    from .boxes import pairwise_iou as pairwise_iou
    from .image_list import ImageList as ImageList
    from .instances import Instances as Instances
    from .keypoints import Keypoints as Keypoints
    from .masks import BitMasks as BitMasks
    from .masks import PolygonMasks as PolygonMasks
    from .rasterize import bitmask_to_rle as bitmask_to_rle
    from .rasterize import polygons_to_bitmask as polygons_to_bitmask
    from .rasterize import rle_to_bitmask as rle_to_bitmask
    from .roi_masks import RoiMasks as RoiMasks

__all__ = [
    "BitMasks",
    "BoxMode",
    "Boxes",
    "ImageList",
    "Instances",
    "Keypoints",
    "PolygonMasks",
    "RoiMasks",
    "bitmask_to_rle",
    "matched_pairwise_iou",
    "pairwise_intersection",
    "pairwise_ioa",
    "pairwise_iou",
    "polygons_to_bitmask",
    "rle_to_bitmask",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "BitMasks": "masks",
        "BoxMode": "boxes",
        "Boxes": "boxes",
        "ImageList": "image_list",
        "Instances": "instances",
        "Keypoints": "keypoints",
        "PolygonMasks": "masks",
        "RoiMasks": "roi_masks",
        "bitmask_to_rle": "rasterize",
        "matched_pairwise_iou": "boxes",
        "pairwise_intersection": "boxes",
        "pairwise_ioa": "boxes",
        "pairwise_iou": "boxes",
        "polygons_to_bitmask": "rasterize",
        "rle_to_bitmask": "rasterize",
    },
)
