"""From the annotations of a dataset record to the targets of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from drivetrain.errors import DatasetError
from drivetrain.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    polygons_to_bitmask,
    rle_to_bitmask,
)

from .transforms import Transform

__all__ = ["Targets", "boxes_xyxy"]

Annotation = dict[str, Any]
Array = np.ndarray[Any, Any]
MASK_FORMATS = ("polygon", "bitmask")
_SMALLEST_SIDE = 1e-5  # pixels; detectors refuse boxes without area


def boxes_xyxy(annotations: Sequence[Annotation]) -> Array:
    """The boxes of annotations as XYXY pixels, float64, shape (N, 4).

    Raises:
        DatasetError: a box is missing, has not 4 numbers, or its mode cannot be converted.
    """
    try:
        rows = np.array([a["bbox"] for a in annotations], dtype=np.float64).reshape(-1, 4)
        if len(rows) != len(annotations):
            raise ValueError(f"{len(rows)} boxes of 4 numbers for {len(annotations)} annotations")
        modes = [int(a["bbox_mode"]) for a in annotations]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            "every annotation needs a 'bbox' of 4 numbers and a 'bbox_mode' (drivetrain.structures.BoxMode): "
            f"{type(error).__name__}: {error}"
        ) from error
    for mode in set(modes) - {int(BoxMode.XYXY_ABS)}:
        chosen = slice(None) if modes.count(mode) == len(modes) else np.array(modes) == mode
        if mode == BoxMode.XYWH_ABS:  # what COCO files have
            rows[chosen, 2:] += rows[chosen, :2]
        else:
            rows[chosen] = BoxMode.convert(rows[chosen], BoxMode(mode), BoxMode.XYXY_ABS)
    return rows


class Targets:
    """Makes the `Instances` of one image from its annotations and the transform that the image went through.

    Attributes:
        mask_format: "polygon" or "bitmask", or None for no masks.
        keypoints: whether there are keypoints.
        flip_indices: for each keypoint, the index of its counterpart on the other side.
        boxes_from_masks: take the boxes around the transformed masks instead of transforming the boxes, which is
            tighter after a crop or rotation.
    """

    def __init__(
        self,
        *,
        mask_format: str | None = None,
        keypoints: bool = False,
        flip_indices: Sequence[int] | None = None,
        boxes_from_masks: bool = False,
    ) -> None:
        """Choose what to make; the arguments are the attributes."""
        self.mask_format, self.keypoints = mask_format, keypoints
        self.flip_indices, self.boxes_from_masks = flip_indices, boxes_from_masks

    def __call__(self, annotations: Sequence[Annotation], transform: Transform) -> Instances:
        """The targets for the transformed image: boxes clipped to it, crowds and what has nothing left dropped.

        Args:
            annotations: of the image, in the pixels of the untransformed image; not changed.
            transform: what was done to the image.

        Raises:
            DatasetError: an annotation lacks what is asked for, or is malformed.
        """
        kept = [a for a in annotations if not a.get("iscrowd", 0)]
        height, width = transform.output_size
        boxes = transform.apply_boxes(boxes_xyxy(kept))
        boxes = boxes.clip(0, np.array([width, height, width, height], dtype=np.float64)).astype(np.float32)
        classes = np.array([int(a["category_id"]) for a in kept], dtype=np.int64)
        masks = None if self.mask_format is None else self._masks(kept, transform)
        if masks is not None and self.boxes_from_masks:
            boxes = masks.get_bounding_boxes().tensor.numpy()
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.from_numpy(boxes))
        instances.gt_classes = torch.from_numpy(classes)
        usable = (boxes[:, 2:] - boxes[:, :2] > _SMALLEST_SIDE).all(axis=1)
        if masks is not None:
            instances.gt_masks = masks
            usable &= masks.nonempty().numpy()
        if self.keypoints:
            instances.gt_keypoints = Keypoints(self._keypoints(kept, transform))
        return instances if usable.all() else instances[torch.from_numpy(usable)]

    def _masks(self, annotations: list[Annotation], transform: Transform) -> PolygonMasks | BitMasks:
        shapes = [a.get("segmentation") for a in annotations]
        if any(not isinstance(s, (list, dict, np.ndarray)) for s in shapes):
            raise DatasetError("an annotation has no 'segmentation', which training with masks needs")
        if self.mask_format == "bitmask":
            bitmaps = [self._bitmap(s, transform) for s in shapes]
            return BitMasks(np.stack(bitmaps) if bitmaps else np.zeros((0, *transform.output_size), dtype=bool))
        if any(not isinstance(s, list) for s in shapes):
            raise DatasetError(
                "an annotation's 'segmentation' is a bitmap or run-length encoded, which mask format 'polygon' "
                "cannot hold; set INPUT.MASK_FORMAT to 'bitmask'"
            )
        return PolygonMasks([transform.apply_polygons(_polygons(s)) for s in shapes if isinstance(s, list)])

    @staticmethod
    def _bitmap(shape: Any, transform: Transform) -> Array:
        height, width = transform.output_size
        if isinstance(shape, list):
            return polygons_to_bitmask(transform.apply_polygons(_polygons(shape)), height, width)
        bitmap = _decoded(shape) if isinstance(shape, dict) else shape
        if bitmap.shape != tuple(transform.input_size):
            raise DatasetError(
                f"a mask has {bitmap.shape[0]} x {bitmap.shape[1]} pixels (height x width), its image "
                f"{transform.input_size[0]} x {transform.input_size[1]}"
            )
        return transform.apply_bitmask(bitmap).astype(bool)

    def _keypoints(self, annotations: list[Annotation], transform: Transform) -> Array:
        rows = [np.asarray(a.get("keypoints", ()), dtype=np.float64).reshape(-1) for a in annotations]
        sizes = {row.size for row in rows}
        if len(sizes) > 1 or any(size == 0 or size % 3 for size in sizes):
            raise DatasetError(
                "every annotation needs the same number of 'keypoints', 3 numbers (x, y, visibility) each, but "
                f"lists of {sorted(sizes)} numbers were found"
            )
        if not rows:
            return np.zeros((0, len(self.flip_indices or ()), 3), dtype=np.float32)
        points = np.stack(rows).reshape(len(rows), -1, 3)
        if self.flip_indices is not None and len(self.flip_indices) != points.shape[1]:
            raise DatasetError(
                f"there are {points.shape[1]} keypoints per annotation but {len(self.flip_indices)} flip indices"
            )
        moved = transform.apply_keypoints(points, self.flip_indices)
        height, width = transform.output_size
        inside = ((moved[..., :2] >= 0) & (moved[..., :2] <= np.array([width, height]))).all(axis=-1)
        moved[~(inside & (moved[..., 2] > 0))] = 0
        return moved.astype(np.float32)


def _decoded(rle: Annotation) -> Array:
    try:
        return rle_to_bitmask(rle)
    except DatasetError:
        raise
    except ValueError as error:  # of the decoder of compressed runs
        raise DatasetError(f"a run-length encoded mask is damaged: {error}") from error


def _polygons(shape: list[Any]) -> list[Any]:
    """The polygons of one instance that have an area: three points or more, an even number of coordinates."""
    for polygon in shape:
        if len(polygon) % 2 or np.ndim(polygon) != 1:
            raise DatasetError(f"a polygon is a flat list of x, y pairs, not {polygon!r}")
    return [p for p in shape if len(p) >= 6]
