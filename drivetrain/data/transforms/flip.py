"""Flipping."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from drivetrain.errors import ConfigError

from .base import Augmentation, NoOpTransform, Size, Transform

__all__ = ["FlipTransform", "RandomFlip"]

Array = np.ndarray[Any, Any]


class FlipTransform(Transform):
    """Mirrors left and right (horizontal) or top and bottom."""

    mirrored = True

    def __init__(self, input_size: Size, *, horizontal: bool = True) -> None:
        """For images of (height, width) ``input_size``; ``horizontal`` exchanges left and right."""
        super().__init__(input_size)
        self.horizontal = horizontal

    def _image(self, image: Tensor) -> Tensor:
        return image.flip(-1 if self.horizontal else -2)

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), mirrored: x becomes width - x (or y height - y)."""
        out: Array = np.array(coords)
        axis = 0 if self.horizontal else 1
        out[:, axis] = self.input_size[1 - axis] - out[:, axis]
        return out


class RandomFlip(Augmentation):
    """Flips with a probability."""

    def __init__(self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False) -> None:
        """Define the flip.

        Args:
            prob: in [0, 1].
            horizontal: exchange left and right.
            vertical: exchange top and bottom; exactly one of the two is True (use two augmentations for both).

        Raises:
            ConfigError: one of these is unusable.
        """
        if not 0 <= prob <= 1:
            raise ConfigError(f"the probability of a flip must be in [0, 1], not {prob!r}")
        if horizontal == vertical:
            raise ConfigError(
                f"a flip is either horizontal or vertical, not horizontal={horizontal}, vertical={vertical}; use "
                "two RandomFlip for both"
            )
        self.prob, self.horizontal, self.vertical = float(prob), horizontal, vertical

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """Decide whether to flip."""
        if rng.random() < self.prob:
            return FlipTransform((height, width), horizontal=self.horizontal)
        return NoOpTransform((height, width))
