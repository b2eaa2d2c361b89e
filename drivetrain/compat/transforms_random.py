"""detectron2's geometric augmentations, by those of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drivetrain.data import transforms as native
from drivetrain.data.transforms.resize import shortest_edge_size

from .transforms_base import Array, Sized, Transform
from .transforms_geometry import CropTransform, ExtentTransform
from .transforms_input import Augmentation, DrawnAugmentation

__all__ = [
    "FixedSizeCrop",
    "MinIoURandomCrop",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomRotation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
]


class _ByRecipe(DrawnAugmentation):
    """Draws what an augmentation of this package draws; constructors raise its ConfigError for unusable values."""

    _recipe: native.Augmentation

    @property
    def needs_boxes(self) -> bool:  # type: ignore[override]
        """Whether boxes matter."""
        return self._recipe.needs_boxes

    def draw(self, rng: np.random.Generator, height: int, width: int) -> native.Transform:
        """Draw for an image of this size."""
        return self._recipe.draw(rng, height, width)

    def draw_around(self, rng: np.random.Generator, height: int, width: int, boxes: Array) -> native.Transform:
        """Draw for an image of this size with objects in these boxes (N, 4)."""
        return self._recipe.draw_around(rng, height, width, boxes)


class RandomFlip(_ByRecipe):
    """Mirrors with a probability."""

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False) -> None:
        """Exactly one of ``horizontal`` and ``vertical`` is True."""
        self._init(locals())
        self._recipe = native.RandomFlip(prob, horizontal=horizontal, vertical=vertical)


class Resize(_ByRecipe):
    """Stretches to one size."""

    def __init__(self, shape: int | Sequence[int], interp: int | None = None) -> None:
        """``shape`` is (height, width), or one number for both; ``interp`` is accepted, bilinear is what is done."""
        self._init(locals())
        self._recipe = native.Resize(shape)


class ResizeShortestEdge(_ByRecipe):
    """Resizes so that the shorter edge has a size drawn from some choices and the longer one stays within a limit."""

    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = 2**31 - 1,
        sample_style: str = "range",
        interp: int | None = None,
    ) -> None:
        """Define the choices.

        Args:
            short_edge_length: (smallest, largest) with style "range", choices with "choice", or one length.
            max_size: the longest the longer edge may become, in pixels.
            sample_style: "range" or "choice".
            interp: accepted; bilinear is what is done.
        """
        self._init(locals())
        self._recipe = native.ResizeShortestEdge(short_edge_length, max_size, sample_style)

    @staticmethod
    def get_output_shape(oldh: int, oldw: int, short_edge_length: int, max_size: int) -> tuple[int, int]:
        """The (height, width) that an image of ``oldh`` x ``oldw`` pixels gets."""
        return shortest_edge_size(oldh, oldw, short_edge_length, max_size)


class ResizeScale(_ByRecipe):
    """Resizes to fit into a target size times a random factor, keeping the shape."""

    def __init__(
        self, min_scale: float, max_scale: float, target_height: int, target_width: int, interp: int | None = None
    ) -> None:
        """The range of the factor and the target in pixels; ``interp`` is accepted, bilinear is what is done."""
        self._init(locals())
        self._recipe = native.ResizeScale(min_scale, max_scale, target_height, target_width)


class FixedSizeCrop(_ByRecipe):
    """Cuts a random part of a given size out of an image; what is smaller is padded below and to the right."""

    def __init__(
        self, crop_size: tuple[int, int], pad: bool = True, pad_value: float = 128.0, seg_pad_value: int = 255
    ) -> None:
        """Define (height, width), and the pixels around the image; label maps are padded with 255."""
        self._init(locals())
        self._recipe = native.FixedSizeCrop(crop_size, pad, int(pad_value))


class RandomCrop(_ByRecipe):
    """Cuts out a rectangle at a random place."""

    def __init__(self, crop_type: str, crop_size: Sequence[float]) -> None:
        """``crop_type`` is "relative", "relative_range", "absolute" or "absolute_range".

        See `drivetrain.data.transforms.RandomCrop` for what the two numbers of ``crop_size`` are in each.
        """
        self._init(locals())
        self._recipe = self._crop = native.RandomCrop(crop_type, crop_size)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Draw the (height, width) of the rectangle for an image of (height, width) by NumPy's global generator."""
        return self._crop.crop_shape(np.random.default_rng(np.random.randint(0, 2**31 - 1)), *image_size)


class RandomRotation(_ByRecipe):
    """Turns by a random angle."""

    def __init__(
        self,
        angle: float | Sequence[float],
        expand: bool = True,
        center: Any = None,
        sample_style: str = "range",
        interp: int | None = None,
    ) -> None:
        """Define the angles.

        Args:
            angle: degrees, counter-clockwise: (lowest, highest) with style "range", or choices.
            expand: make the canvas as large as the turned image.
            center: ranges (x0, y0), (x1, y1), as fractions of width and height, that the point to turn about is drawn
                from; None is the centre.
            sample_style: "range" or "choice".
            interp: accepted; images are interpolated bilinearly.
        """
        self._init(locals())
        self._recipe = native.RandomRotation(_angles(angle, sample_style), expand, center, sample_style)


def _angles(angle: float | Sequence[float], sample_style: str) -> Sequence[float]:
    """A single number is the one angle there is."""
    if isinstance(angle, (int, float)):
        return (angle, angle) if sample_style == "range" else (angle,)
    return angle


class MinIoURandomCrop(_ByRecipe):
    """Cuts out a rectangle whose overlap with an object reaches a limit drawn from some: the crop of SSD."""

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        mode_trials: int = 1000,
        crop_trials: int = 50,
    ) -> None:
        """The limits (no limit and the whole image are added to them), and the least edge as a fraction.

        The numbers of trials are accepted; 40 are made.
        """
        self._init(locals())
        self._recipe = native.RandomIoUCrop(min_scale=min_crop_size, overlaps=(0.0, *min_ious, 2.0))


class RandomExtent(DrawnAugmentation):
    """Stretches a rectangle drawn around the image's centre, which may reach over its edges, to its own size."""

    def __init__(self, scale_range: tuple[float, float], shift_range: tuple[float, float]) -> None:
        """The range of the factor on the edges, and the largest shifts of the centre in x and y, as fractions."""
        self._init(locals())

    def draw(self, rng: np.random.Generator, height: int, width: int) -> native.Transform:
        """Draw factor and shifts."""
        scale = rng.uniform(*self.scale_range)  # type: ignore[attr-defined]
        shift_x, shift_y = (range_ * (rng.random() - 0.5) for range_ in self.shift_range)  # type: ignore[attr-defined]
        rect = np.array([-0.5, -0.5, 0.5, 0.5]) * scale + np.array([shift_x, shift_y] * 2) + 0.5
        rect *= np.array([width, height] * 2)
        size = (int(abs(rect[3] - rect[1])), int(abs(rect[2] - rect[0])))
        return Sized(ExtentTransform(tuple(rect.tolist()), size), (height, width), size)


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """A `RandomCrop` that looks for a part in which no class fills too much: up to ten tries."""

    def __init__(
        self,
        crop_type: str,
        crop_size: Sequence[float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ) -> None:
        """The crop, the largest part that one class may have of it, and a label that does not count."""
        self._init(locals())
        self.crop_aug = RandomCrop(crop_type, crop_size)

    def get_transform(self, image: Array, sem_seg: Array) -> Transform:  # type: ignore[override]
        """Draw by NumPy's global generator, for an image and its label map (H, W)."""
        height, width = sem_seg.shape
        for _ in range(10):
            crop_height, crop_width = self.crop_aug.get_crop_size((height, width))
            top = np.random.randint(height - crop_height + 1)
            left = np.random.randint(width - crop_width + 1)
            if self._is_mixed(sem_seg[top : top + crop_height, left : left + crop_width]):
                break
        return CropTransform(left, top, crop_width, crop_height, width, height)

    def _is_mixed(self, labels: Array) -> bool:
        limit, ignored = self.single_category_max_area, self.ignored_category  # type: ignore[attr-defined]
        if limit >= 1:
            return True
        found, counts = np.unique(labels, return_counts=True)
        counts = counts[found != ignored]
        return len(counts) > 1 and counts.max() < counts.sum() * limit
