"""The crop of SSD, which keeps a minimum of an object in view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drivetrain.errors import ConfigError

from .base import Augmentation, NoOpTransform, Size, Transform
from .crop import CropTransform

__all__ = ["RandomIoUCrop"]

Array = np.ndarray[Any, Any]
_TRIALS = 40


class RandomIoUCrop(Augmentation):
    """Cuts out a rectangle whose overlap (IoU) with an object reaches a limit, itself drawn from some choices.

    Liu et al., "SSD: single shot multibox detector" (ECCV 2016), section 2.2. Edges of the rectangle are drawn
    from a range of fractions of the image's, its aspect ratio is limited, and the centre of an object has to be in it.
    A limit above 1 stands for the whole image, which is also taken where there are no objects, and after 40 trials.
    """

    needs_boxes = True

    def __init__(
        self,
        min_scale: float = 0.3,
        max_scale: float = 1.0,
        min_aspect_ratio: float = 0.5,
        max_aspect_ratio: float = 2.0,
        overlaps: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 2.0),
    ) -> None:
        """Define the ranges: of the edges as fractions of the image's, of width over height, and the limits.

        Raises:
            ConfigError: a range is empty or not of positive numbers.
        """
        if not (0 < min_scale <= max_scale <= 1 and 0 < min_aspect_ratio <= max_aspect_ratio and overlaps):
            raise ConfigError(
                "RandomIoUCrop needs 0 < min_scale <= max_scale <= 1, 0 < min_aspect_ratio <= max_aspect_ratio and at "
                f"least one overlap, not {min_scale, max_scale, min_aspect_ratio, max_aspect_ratio, tuple(overlaps)!r}"
            )
        self.scales = (min_scale, max_scale)
        self.aspect_ratios = (min_aspect_ratio, max_aspect_ratio)
        self.overlaps = tuple(float(o) for o in overlaps)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """The whole image: without boxes there is nothing to keep in view."""
        return NoOpTransform((height, width))

    def draw_around(self, rng: np.random.Generator, height: int, width: int, boxes: Array) -> Transform:
        """Draw the limit, then rectangles until one fits."""
        limit = self.overlaps[int(rng.integers(len(self.overlaps)))]
        if limit <= 1 and len(boxes):
            for _ in range(_TRIALS):
                crop = self._rectangle(rng, (height, width))
                if crop is not None and _keeps(crop, boxes, limit):
                    left, top, right, bottom = crop
                    return CropTransform((height, width), top, left, bottom - top, right - left)
        return NoOpTransform((height, width))

    def _rectangle(self, rng: np.random.Generator, size: Size) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 of a rectangle in an image of this size; None when its shape is not allowed."""
        height, width = (max(int(edge * rng.uniform(*self.scales)), 1) for edge in size)
        if not self.aspect_ratios[0] <= width / height <= self.aspect_ratios[1]:
            return None
        left, top = int(rng.integers(size[1] - width + 1)), int(rng.integers(size[0] - height + 1))
        return left, top, left + width, top + height


def _keeps(crop: tuple[int, int, int, int], boxes: Array, limit: float) -> bool:
    """Whether an object with its centre in the rectangle overlaps it by at least ``limit`` (IoU)."""
    low, high = np.array(crop[:2]), np.array(crop[2:])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres > low) & (centres < high)).all(axis=1)
    sides = np.clip(np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low), 0, None)
    common = sides.prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + float((high - low).prod())
    return bool((inside & (common >= limit * (areas - common))).any())
