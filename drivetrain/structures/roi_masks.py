"""Predicted masks as a network gives them: a small square of scores for each box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Union

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .rasterize import bitmask_to_rle

__all__ = ["RoiMasks"]

Index = Union[int, slice, Tensor, "np.ndarray[Any, Any]", Sequence[int]]


class RoiMasks:
    """N masks of an image, each M x M scores stretched over a box; bitmaps are made of them when they are asked for.

    100 masks of 28 x 28 take 0.3 MB, while 100 bitmaps of an image of 12 megapixels take 1.2 GB. ``tensor`` is the
    bitmaps all at once; iterating gives one at a time, and :meth:`run_lengths` needs none at all.

    Attributes:
        scores: float, shape (N, M, M), 0 to 1.
        boxes: XYXY in pixels, shape (N, 4), float.
        image_size: (height, width) of the image in pixels.
        threshold: a pixel belongs to the mask where its score is higher than this or equal.
    """

    def __init__(self, scores: Tensor, boxes: Tensor, image_size: tuple[int, int], threshold: float = 0.5) -> None:
        """Hold scores and boxes.

        Raises:
            ValueError: the shapes are not (N, M, M) and (N, 4).
        """
        if scores.ndim != 3 or scores.shape[1] != scores.shape[2] or boxes.shape != (len(scores), 4):
            raise ValueError(
                f"scores of shape (N, M, M) and boxes of shape (N, 4) make masks, but {tuple(scores.shape)} and "
                f"{tuple(boxes.shape)} were received"
            )
        self.scores, self.boxes, self.image_size, self.threshold = scores, boxes, image_size, threshold

    @property
    def device(self) -> torch.device:
        """Where the scores lie."""
        return self.scores.device

    @property
    def tensor(self) -> Tensor:
        """The masks as bitmaps, bool, shape (N, height, width)."""
        masks = self.scores.new_zeros((len(self), *self.image_size), dtype=torch.bool)
        for mask, (part, top, left) in zip(masks, self._parts(), strict=True):
            mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return masks

    def run_lengths(self) -> list[dict[str, Any]]:
        """The masks as COCO's compressed run lengths, ``{"size": [height, width], "counts": str}`` each."""
        masks = self.to("cpu")
        return [bitmask_to_rle(part.numpy(), self.image_size, (top, left)) for part, top, left in masks._parts()]

    def to(self, *args: Any, **kwargs: Any) -> RoiMasks:
        """The same masks, moved as ``Tensor.to`` would."""
        return RoiMasks(
            self.scores.to(*args, **kwargs), self.boxes.to(*args, **kwargs), self.image_size, self.threshold
        )

    @classmethod
    def cat(cls, masks_list: Sequence[RoiMasks]) -> RoiMasks:
        """All masks of the list in order; ValueError for an empty list or masks of different images."""
        if not masks_list or any(masks.image_size != masks_list[0].image_size for masks in masks_list):
            raise ValueError(
                f"masks of one image join, but those of {[m.image_size for m in masks_list]} were received"
            )
        scores, boxes = (torch.cat([getattr(masks, name) for masks in masks_list]) for name in ("scores", "boxes"))
        return cls(scores, boxes, masks_list[0].image_size, masks_list[0].threshold)

    def _parts(self) -> Iterator[tuple[Tensor, int, int]]:
        """For each mask the part of the image that its box covers, bool, and the row and column where it begins.

        The rule is that of torchvision's Mask R-CNN: a border of zeros is put around the scores, the box grows with it
        and to whole pixels, both ends included, and the scores are interpolated bilinearly.
        """
        height, width = self.image_size
        side = self.scores.shape[-1]
        padded = F.pad(self.scores, (1, 1, 1, 1))
        centre = (self.boxes[:, :2] + self.boxes[:, 2:]) * 0.5
        half = (self.boxes[:, 2:] - self.boxes[:, :2]) * 0.5 * ((side + 2) / side)
        grown = torch.cat((centre - half, centre + half), dim=1).to(torch.int64).tolist()  # the one wait for the device
        for scores, (x0, y0, x1, y1) in zip(padded, grown, strict=True):
            size = (max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1))
            part = F.interpolate(scores[None, None], size, mode="bilinear", align_corners=False)[0, 0]
            top, left = max(y0, 0), max(x0, 0)
            inside = part[top - y0 : max(height - y0, 0), left - x0 : max(width - x0, 0)]
            yield inside >= self.threshold, top, left

    def __getitem__(self, item: Index) -> RoiMasks:
        """The masks at an integer, slice, bool mask (N,) or integer indices; always RoiMasks."""
        if isinstance(item, int):
            item = [item]
        return RoiMasks(self.scores[item], self.boxes[item], self.image_size, self.threshold)

    def __len__(self) -> int:
        """The number of masks."""
        return self.scores.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Each mask as a bool tensor (height, width)."""
        for i in range(len(self)):
            yield self[i].tensor[0]

    def __repr__(self) -> str:
        """Number and size of the masks."""
        height, width = self.image_size
        return f"RoiMasks(num_instances={len(self)}, height={height}, width={width})"
