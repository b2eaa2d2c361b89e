"""Resizing to a size that does not depend on the image's, and jitter of the scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivetrain.errors import ConfigError

from .base import Augmentation, NoOpTransform, Size, Transform, load_kernels
from .pad import as_size, fitting_size
from .resize import ResizeTransform

__all__ = ["Resize", "ResizeScale", "ResizeToFit"]


def _resized(height: int, width: int, new: Size) -> Transform:
    return NoOpTransform(new) if new == (height, width) else ResizeTransform((height, width), new)


class Resize(Augmentation):
    """Stretches images to one size."""

    def __init__(self, shape: int | Sequence[int]) -> None:
        """Define the size: height and width in pixels, or one number for both.

        Raises:
            ConfigError: the size is unusable.
        """
        load_kernels()
        self.shape = as_size(shape, "the size to resize images to (INPUT.SIZE)")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """The same for all images of a size."""
        return _resized(height, width, self.shape)


class ResizeToFit(Augmentation):
    """Resizes images, keeping their shape, to just fit into a size: what `Letterbox` does, without the padding."""

    def __init__(self, size: int | Sequence[int]) -> None:
        """Define the size: height and width in pixels, or one number for both.

        Raises:
            ConfigError: the size is unusable.
        """
        load_kernels()
        self.size = as_size(size, "the size to fit images into (INPUT.SIZE)")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """The same for all images of a size."""
        return _resized(height, width, fitting_size(height, width, self.size))


class ResizeScale(Augmentation):
    """Resizes images, keeping their shape, to fit into a target size times a random factor.

    With `FixedSizeCrop` after it, large-scale jitter: Ghiasi et al., "Simple copy-paste is a strong data augmentation
    method for instance segmentation" (CVPR 2021), with factors from 0.1 to 2.
    """

    def __init__(self, min_scale: float, max_scale: float, target_height: int, target_width: int) -> None:
        """Define the target in pixels and the range that the factor is drawn from, evenly.

        Raises:
            ConfigError: one of these is unusable.
        """
        load_kernels()
        if not 0 < min_scale <= max_scale < float("inf"):
            raise ConfigError(
                "the range of scales (INPUT.SCALE_RANGE) must be two numbers above 0, the first not above the second, "
                f"not {(min_scale, max_scale)!r}"
            )
        self.min_scale, self.max_scale = float(min_scale), float(max_scale)
        self.target = as_size((target_height, target_width), "the size that scales refer to (INPUT.SIZE)")

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """Draw the factor."""
        return _resized(
            height, width, fitting_size(height, width, self.target, rng.uniform(self.min_scale, self.max_scale))
        )
