"""What Mask R-CNN's mask branch learns from, made without a full-size bitmap for each instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align

from drivetrain.structures import BitMasks, PolygonMasks, polygons_to_bitmask

__all__ = ["MaskCrops"]

Polygons = Sequence[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class MaskCrops:
    """The masks of one image's instances, each in a rectangle of the image that holds it.

    Attributes:
        bitmaps: bool, (h_i, w_i), one per instance. Where a side of the rectangle is no side of the image, its last
            row or column is empty.
        corners: x and y of each rectangle's first pixel, float, shape (N, 2).
    """

    bitmaps: tuple[Tensor, ...]
    corners: Tensor

    @classmethod
    def of(cls, masks: PolygonMasks | BitMasks, size: tuple[int, int], device: torch.device) -> MaskCrops:
        """The crops of masks in an image of (height, width) ``size``, on a device.

        Polygons are filled within their own rectangles only; bitmaps are taken whole.
        """
        if isinstance(masks, BitMasks):
            whole = masks.tensor.to(device, non_blocking=True)
            return cls(tuple(whole), torch.zeros(len(masks), 2, device=device))
        pieces = [_filled(polygons, size) for polygons in masks.polygons]
        corners = torch.tensor([corner for _, corner in pieces], dtype=torch.float32).reshape(-1, 2)
        flat = np.concatenate([bitmap.reshape(-1) for bitmap, _ in pieces] or [np.zeros(0, dtype=bool)])
        moved = torch.from_numpy(flat).to(device, non_blocking=True)  # one copy to the device for all
        parts = torch.split(moved, [bitmap.size for bitmap, _ in pieces])
        bitmaps = tuple(part.view(bitmap.shape) for part, (bitmap, _) in zip(parts, pieces, strict=True))
        return cls(bitmaps, corners.to(device, non_blocking=True))

    def sample(self, boxes: Tensor, matched: Tensor, side: int) -> Tensor:
        """For each box its instance's mask there, averaged over the cells of a square, as torchvision does it.

        Args:
            boxes: XYXY in pixels of the image, within it, shape (P, 4).
            matched: the place of each box's instance, int64, shape (P,).
            side: of the square, in cells.

        Returns:
            float, 0 to 1, shape (P, side, side).
        """
        result = boxes.new_zeros((len(boxes), side, side))
        order = matched.argsort()
        counts = matched.bincount(minlength=len(self.bitmaps)).tolist()
        for bitmap, corner, rows in zip(self.bitmaps, self.corners, torch.split(order, counts), strict=True):
            if len(rows):
                here = boxes[rows] - corner.repeat(2)
                # One bitmap at a time becomes float: all of an image's would take gigabytes.
                result[rows] = roi_align(bitmap[None, None].to(boxes.dtype), [here], side)[:, 0]
        return result


def _filled(polygons: Polygons, size: tuple[int, int]) -> tuple[np.ndarray[Any, Any], tuple[int, int]]:
    """One instance's bitmap within its rectangle of the image, a pixel larger each way, and the rectangle's corner."""
    if not polygons:
        return np.zeros((1, 1), dtype=bool), (0, 0)
    height, width = size
    points = np.concatenate(polygons).reshape(-1, 2)
    low = np.clip(np.floor(points.min(axis=0)).astype(int) - 1, 0, (width - 1, height - 1))
    high = np.clip(np.ceil(points.max(axis=0)).astype(int) + 1, low + 1, (width, height))
    moved = [(p.reshape(-1, 2) - low).reshape(-1) for p in polygons]
    (x, y), (columns, rows) = low.tolist(), (high - low).tolist()
    return polygons_to_bitmask(moved, rows, columns), (x, y)
