"""Rotation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import ConfigError

from .base import Augmentation, NoOpTransform, Size, Transform
from .crop import visible_polygons

__all__ = ["RandomRotation", "RotationTransform"]

Array = np.ndarray[Any, Any]
_EPSILON = 1e-6  # pixels; so that a quarter turn does not grow the canvas by a rounding error


class RotationTransform(Transform):
    """Turns an image about a point: bilinear for images, nearest for masks.

    Boxes are those around the turned corners, which are larger than the objects; ``recompute_boxes`` of
    `DatasetMapper` takes them from masks instead.
    """

    def __init__(
        self,
        input_size: Size,
        angle: float,
        *,
        expand: bool = True,
        center: tuple[float, float] | None = None,
        value: int = 0,
    ) -> None:
        """Define the turn.

        Args:
            input_size: (height, width) of the images it is for.
            angle: in degrees, counter-clockwise as one sees the image.
            expand: make the canvas as large as the turned image; the centre of the image stays the canvas's. Otherwise
                the canvas keeps its size, and what leaves it is lost.
            center: x and y of the point to turn about, in pixels; None is the centre. Without effect with ``expand``.
            value: of pixels that were not in the image.
        """
        height, width = input_size
        radians = math.radians(angle)
        cosine, sine = math.cos(radians), math.sin(radians)
        size = input_size
        if expand:
            new_width = abs(cosine) * width + abs(sine) * height
            new_height = abs(sine) * width + abs(cosine) * height
            size = math.ceil(new_height - _EPSILON), math.ceil(new_width - _EPSILON)
        super().__init__(input_size, size)
        self.angle, self.value = angle, value
        # y points down, so that this matrix turns counter-clockwise to the eye.
        self._matrix = np.array([[cosine, sine], [-sine, cosine]])
        self.expand = expand
        self.center = (width / 2, height / 2) if center is None or expand else center
        self._origin = about = np.array(self.center)
        self._target = np.array((size[1] / 2, size[0] / 2)) if expand else about

    def _sampled(self, images: Tensor, mode: str, fill: int) -> Tensor:
        """The images (N, H, W) uint8, looked up at where each pixel of the canvas came from."""
        height, width = self.output_size
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        source = (np.stack((x, y), axis=-1) - self._target) @ self._matrix + self._origin  # the inverse is transposed
        grid = 2 * source / np.array([self.input_size[1], self.input_size[0]]) - 1
        moved = torch.nn.functional.grid_sample(
            (images.float() - fill)[None],
            torch.from_numpy(grid.astype(np.float32))[None],
            mode=mode,
            padding_mode="zeros",
            align_corners=False,
        )
        return (moved[0] + fill).round().clamp(0, 255).to(torch.uint8)

    def _image(self, image: Tensor) -> Tensor:
        return self._sampled(image, "bilinear", self.value)

    def _mask(self, masks: Tensor) -> Tensor:
        return self._sampled(masks, "nearest", 0)

    def _labels(self, labels: Tensor, fill: int) -> Tensor:
        return self._sampled(labels, "nearest", fill)

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), turned."""
        moved = (coords - self._origin) @ self._matrix.T + self._target
        return np.asarray(moved, dtype=coords.dtype)

    def apply_polygons(self, polygons: Sequence[Array | Sequence[float]]) -> list[Array]:
        """The parts of one instance's polygons on the canvas, as flat float64 arrays."""
        return visible_polygons(super().apply_polygons(polygons), self.output_size)


class RandomRotation(Augmentation):
    """Turns images by a random angle."""

    def __init__(
        self,
        angle: float | Sequence[float],
        expand: bool = True,
        center: tuple[tuple[float, float], tuple[float, float]] | None = None,
        sample_style: str = "range",
        value: int = 0,
    ) -> None:
        """Define the angles.

        Args:
            angle: degrees, counter-clockwise: (lowest, highest) with style "range", or choices; a number a stands for
                (-a, a).
            expand: see `RotationTransform`.
            center: ranges (x0, y0), (x1, y1), as fractions of width and height, that the point to turn about is drawn
                from; None is the image's centre.
            sample_style: "range" or "choice".
            value: of pixels that were not in the image.

        Raises:
            ConfigError: one of these is unusable.
        """
        angles = (-angle, angle) if isinstance(angle, (int, float)) else tuple(angle)
        if sample_style not in ("range", "choice"):
            raise ConfigError(f"the sample_style of a rotation must be 'range' or 'choice', not {sample_style!r}")
        ordered = sample_style == "choice" or (len(angles) == 2 and angles[0] <= angles[1])
        if not angles or not ordered or not all(math.isfinite(a) for a in angles):
            raise ConfigError(
                "the angles of a rotation (INPUT.ROTATION) must be the lowest and the highest in degrees, or choices, "
                f"not {angle!r}"
            )
        self.angles, self.expand, self.center = angles, expand, center
        self.sample_style, self.value = sample_style, value

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """Draw the angle, and the point."""
        if self.sample_style == "range":
            angle = float(rng.uniform(self.angles[0], self.angles[1]))
        else:
            angle = float(self.angles[int(rng.integers(len(self.angles)))])
        center = None
        if self.center is not None:
            (x0, y0), (x1, y1) = self.center
            center = float(rng.uniform(x0, x1) * width), float(rng.uniform(y0, y1) * height)
        if angle % 360 == 0:
            return NoOpTransform((height, width))
        return RotationTransform((height, width), angle, expand=self.expand, center=center, value=self.value)
