"""Cropping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from drivetrain.errors import ConfigError, did_you_mean

from .base import Augmentation, Size, Transform

__all__ = ["CropTransform", "RandomCrop", "clip_polygon", "visible_polygons"]

Array = np.ndarray[Any, Any]
CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")


def clip_polygon(points: Array, width: float, height: float) -> Array:
    """The part of a polygon (K, 2) inside the rectangle from (0, 0) to (width, height).

    Sutherland and Hodgman, "Reentrant polygon clipping" (CACM 1974): cut by one edge of the rectangle after the
    other. A part that falls into several pieces comes out as one polygon joined along the rectangle's edge, which
    covers the same area.

    Returns:
        float64 (M, 2); M is 0 when nothing is left.
    """
    out = np.asarray(points, dtype=np.float64)
    for axis, limit, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        if len(out) == 0:
            return out.reshape(0, 2)
        depth = sign * (out[:, axis] - limit)  # >= 0 inside
        if (depth >= 0).all():
            continue
        kept: list[Array] = []
        for k in range(len(out)):
            previous, here, before, now = out[k - 1], out[k], depth[k - 1], depth[k]
            if (before >= 0) != (now >= 0):
                crossing = previous + (here - previous) * (before / (before - now))
                crossing[axis] = limit
                kept.append(crossing)
            if now >= 0:
                kept.append(here)
        out = np.array(kept, dtype=np.float64).reshape(-1, 2)
    return out


def _area(points: Array) -> float:
    x, y = points[:, 0], points[:, 1]
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def visible_polygons(polygons: Sequence[Array], size: Size) -> list[Array]:
    """The parts of polygons [x0, y0, x1, y1, ...] inside an image of (height, width) ``size``; without area, none."""
    cut = (clip_polygon(p.reshape(-1, 2), size[1], size[0]) for p in polygons)
    return [p.reshape(-1) for p in cut if len(p) >= 3 and _area(p) > 0]


class CropTransform(Transform):
    """Cuts a rectangle out of an image; polygons are cut too, boxes and points are only shifted."""

    def __init__(self, input_size: Size, top: int, left: int, height: int, width: int) -> None:
        """The rectangle of ``height`` x ``width`` pixels whose first row is ``top`` and first column ``left``.

        Raises:
            ValueError: it is not within the image.
        """
        if not (0 <= top < top + height <= input_size[0] and 0 <= left < left + width <= input_size[1]):
            raise ValueError(
                f"a crop of {height} x {width} at row {top}, column {left} is not within an image of height x "
                f"width {input_size[0]} x {input_size[1]}"
            )
        super().__init__(input_size, (height, width))
        self.top, self.left = top, left

    def _image(self, image: Tensor) -> Tensor:
        height, width = self.output_size
        return image[..., self.top : self.top + height, self.left : self.left + width]

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), counted from the crop's top left corner."""
        return np.asarray(coords - np.array([self.left, self.top], dtype=coords.dtype))

    def apply_polygons(self, polygons: Sequence[Array | Sequence[float]]) -> list[Array]:
        """The parts of one instance's polygons in the crop, as flat float64 arrays; those without area drop out."""
        return visible_polygons(super().apply_polygons(polygons), self.output_size)


class RandomCrop(Augmentation):
    """Cuts out a rectangle at a random place."""

    def __init__(self, crop_type: str, crop_size: Sequence[float], keep_object: bool = False) -> None:
        """Define the size of the rectangle; it never exceeds the image.

        Args:
            crop_type: how ``crop_size`` (two numbers a, b) is meant. "relative": height a and width b as fractions of
                the image's. "relative_range": fractions drawn from [a, 1] and [b, 1]. "absolute": height a and width b
                in pixels. "absolute_range": height and width both drawn from the integers in [a, b].
            crop_size: two numbers.
            keep_object: place the rectangle such that the centre of an object, chosen at random, is in it.

        Raises:
            ConfigError: the type is unknown or the sizes do not fit it.
        """
        if crop_type not in CROP_TYPES:
            raise ConfigError(
                f"INPUT.CROP.TYPE must be one of {', '.join(CROP_TYPES)}, not "
                f"{crop_type!r}{did_you_mean(str(crop_type), CROP_TYPES)}"
            )
        size = tuple(crop_size)
        relative = crop_type.startswith("relative")
        usable = len(size) == 2 and all(0 < s <= 1 if relative else s >= 1 and s == int(s) for s in size)
        if not usable or (crop_type == "absolute_range" and size[0] > size[1]):
            need = {"relative": "two fractions in (0, 1]", "absolute": "two integers of 1 or more"}
            ordered = ", the first not above the second" if crop_type == "absolute_range" else ""
            raise ConfigError(
                f"INPUT.CROP.SIZE for type {crop_type!r} must be {need[crop_type.split('_')[0]]}{ordered}, not "
                f"{crop_size!r}"
            )
        self.crop_type, self.crop_size = crop_type, size
        self.needs_boxes = keep_object

    def crop_shape(self, rng: np.random.Generator, height: int, width: int) -> Size:
        """Draw the (height, width) of the rectangle for an image of ``height`` x ``width``."""
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(int(first), height), min(int(second), width)
        if self.crop_type == "absolute_range":
            low, high = int(first), int(second)
            drawn = [int(rng.integers(min(edge, low), min(edge, high) + 1)) for edge in (height, width)]
            return drawn[0], drawn[1]
        if self.crop_type == "relative_range":
            first = first + rng.random() * (1 - first)
            second = second + rng.random() * (1 - second)
        return max(int(height * first + 0.5), 1), max(int(width * second + 0.5), 1)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> CropTransform:
        """Draw size and place of the rectangle."""
        crop_height, crop_width = self.crop_shape(rng, height, width)
        top = int(rng.integers(height - crop_height + 1))
        left = int(rng.integers(width - crop_width + 1))
        return CropTransform((height, width), top, left, crop_height, crop_width)

    def draw_around(self, rng: np.random.Generator, height: int, width: int, boxes: Array) -> CropTransform:
        """Draw size and place of the rectangle, around an object if one is to be kept."""
        if not self.needs_boxes or not len(boxes):
            return self.draw(rng, height, width)
        crop_height, crop_width = self.crop_shape(rng, height, width)
        box = boxes[int(rng.integers(len(boxes)))]
        left = _offset(rng, (box[0] + box[2]) / 2, crop_width, width)
        top = _offset(rng, (box[1] + box[3]) / 2, crop_height, height)
        return CropTransform((height, width), top, left, crop_height, crop_width)


def _offset(rng: np.random.Generator, point: float, length: int, edge: int) -> int:
    """Where an interval of ``length`` within [0, ``edge``] that holds ``point`` begins, drawn evenly."""
    low = max(int(np.ceil(point)) - length, 0)
    high = min(int(np.floor(point)), edge - length)
    return int(rng.integers(min(low, high), high + 1))
