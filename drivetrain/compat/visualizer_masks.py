"""Masks in all the forms in which a :class:`~drivetrain.compat.visualizer.Visualizer` takes them, as bitmaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from drivetrain.structures import Keypoints, polygons_to_bitmask, rle_to_bitmask

__all__ = ["as_array", "as_bitmaps", "as_boxes", "as_points", "bounding_boxes", "middle"]

Array = np.ndarray[Any, Any]


def as_bitmaps(masks: Any, height: int, width: int) -> list[Array]:
    """N masks of an image as bool arrays (height, width).

    Args:
        masks: ``BitMasks``, ``RoiMasks``, ``PolygonMasks``, an array or tensor (N, height, width), or a list of which
            each is a bitmap, a list of polygons ``[x0, y0, x1, y1, ...]``, run lengths as in COCO, or empty.
        height: of the image in pixels.
        width: of the image in pixels.

    Raises:
        ValueError: a mask is of another size.
    """
    return [_bitmap(mask, height, width) for mask in masks]


def _bitmap(mask: Any, height: int, width: int) -> Array:
    if isinstance(mask, Mapping):
        bitmap: Array = rle_to_bitmask(mask)
    elif _is_polygons(mask):
        bitmap = polygons_to_bitmask([as_array(polygon).ravel() for polygon in mask], height, width)
    else:
        array = as_array(mask)
        bitmap = array if array.dtype == bool else array > 0
    if bitmap.shape != (height, width):
        raise ValueError(f"a mask for this image is {height}x{width}, but one of {bitmap.shape} was received")
    return bitmap


def _is_polygons(mask: Any) -> bool:
    """Whether it is a list of polygons, maybe empty, rather than an array."""
    return isinstance(mask, list | tuple) and all(as_array(part).ndim == 1 for part in mask)


def as_boxes(boxes: Any) -> Array:
    """``Boxes``, an array, tensor or list as float (N, 4), XYXY, or (N, 5): centre X, Y, width, height, degrees.

    Raises:
        ValueError: the shape is another.
    """
    array = as_array(getattr(boxes, "tensor", boxes)).astype(float)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise ValueError(f"boxes have the shape (N, 4), or (N, 5) when turned, but {array.shape} was received")
    return array


def as_points(keypoints: Any, threshold: float) -> Array:
    """Keypoints as float (N, K, 3), the third number 0 for those with a score or visibility up to ``threshold``."""
    raw = as_array(keypoints.tensor if isinstance(keypoints, Keypoints) else keypoints).astype(float)
    if raw.ndim != 3 or raw.shape[2] not in (2, 3):
        raise ValueError(f"keypoints have the shape (N, K, 3), but {raw.shape} was received")
    if raw.shape[2] == 2:
        raw = np.concatenate((raw, np.ones((*raw.shape[:2], 1))), axis=2)
    points: Array = raw
    points[..., 2] = np.where(points[..., 2] > threshold, points[..., 2], 0)
    return points


def bounding_boxes(masks: list[Array]) -> Array:
    """Around each of the masks, (N, 4), XYXY in whole pixels; zeros around an empty one."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(ys):
            box[:] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return boxes


def middle(mask: Array) -> tuple[float, float]:
    """X and Y of a pixel of the mask: of those in the row that halves its area, the one that halves the row."""
    areas = mask.sum(axis=1).cumsum()
    row = int(np.searchsorted(areas, areas[-1] / 2))
    columns = np.flatnonzero(mask[row])
    return float(columns[len(columns) // 2]), float(row)


def as_array(values: Any) -> Array:
    """An array, tensor on any device or list as an array, with the same memory if that is possible."""
    return np.asarray(values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values)
