"""Images of one size: padding, and crops that pad what is too small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from drivetrain.data.pixels import blank
from drivetrain.errors import ConfigError

from .base import Augmentation, NoOpTransform, Size, Transform, TransformList
from .crop import CropTransform
from .resize import ResizeTransform

__all__ = ["FixedSizeCrop", "Letterbox", "PadTransform", "as_size", "fitting_size"]

Array = np.ndarray[Any, Any]
GREY = 114  # what detectors are used to see beside images


class PadTransform(Transform):
    """Puts an image onto a larger canvas."""

    def __init__(self, input_size: Size, output_size: Size, top: int = 0, left: int = 0, value: int = GREY) -> None:
        """Place the image with its first row at ``top`` and its first column at ``left``.

        Args:
            input_size: (height, width) of the images it is for.
            output_size: (height, width) of the canvas.
            top: rows above the image.
            left: columns to the left of it.
            value: of the pixels around it, 0 to 255, in all channels.

        Raises:
            ValueError: the image does not fit there.
        """
        if not (0 <= top <= output_size[0] - input_size[0] and 0 <= left <= output_size[1] - input_size[1]):
            raise ValueError(
                f"an image of height x width {input_size[0]} x {input_size[1]} at row {top}, column {left} is not "
                f"within a canvas of {output_size[0]} x {output_size[1]}"
            )
        super().__init__(input_size, output_size)
        self.top, self.left, self.value = top, left, value

    def _placed(self, image: Tensor, value: int) -> Tensor:
        height, width = self.input_size
        canvas = blank(image, self.output_size, value)
        canvas[..., self.top : self.top + height, self.left : self.left + width] = image
        return canvas

    def _image(self, image: Tensor) -> Tensor:
        return self._placed(image, self.value)

    def _mask(self, masks: Tensor) -> Tensor:
        return self._placed(masks, 0)

    def _labels(self, labels: Tensor, fill: int) -> Tensor:
        return self._placed(labels, fill)

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), counted from the canvas's top left corner."""
        return np.asarray(coords + np.array([self.left, self.top], dtype=coords.dtype))


def as_size(size: int | Sequence[int], key: str) -> Size:
    """(height, width) of a number for a square or of two.

    Raises:
        ConfigError: it is neither, or not positive; ``key`` names it in the message.
    """
    edges = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(edges) != 2 or any(isinstance(e, bool) or int(e) != e or e < 1 for e in edges):
        raise ConfigError(f"{key} must be a height and a width in pixels, 1 or more each, not {size!r}")
    return int(edges[0]), int(edges[1])


def fitting_size(height: int, width: int, target: Size, scale: float = 1.0) -> Size:
    """The (height, width) with the image's shape that just fits into ``target``, times ``scale``; 1 pixel at least."""
    ratio = scale * min(target[0] / height, target[1] / width)
    return max(int(height * ratio + 0.5), 1), max(int(width * ratio + 0.5), 1)


class FixedSizeCrop(Augmentation):
    """Cuts a random part of a given size out of an image; an image that is smaller is padded below and to the right."""

    def __init__(self, crop_size: int | Sequence[int], pad: bool = True, pad_value: int = GREY) -> None:
        """Define the size.

        Args:
            crop_size: height and width in pixels, or one number for both.
            pad: whether to pad; otherwise what is smaller stays so.
            pad_value: of the pixels around the image.

        Raises:
            ConfigError: the size is unusable.
        """
        self.crop_size = as_size(crop_size, "crop_size (INPUT.SIZE)")
        self.pad, self.pad_value = pad, pad_value

    def draw(self, rng: np.random.Generator, height: int, width: int) -> TransformList:
        """Draw the place of the crop."""
        kept = (min(height, self.crop_size[0]), min(width, self.crop_size[1]))
        top = int(rng.integers(height - kept[0] + 1))
        left = int(rng.integers(width - kept[1] + 1))
        steps: list[Transform] = []
        if kept != (height, width):
            steps.append(CropTransform((height, width), top, left, *kept))
        if self.pad and kept != self.crop_size:
            steps.append(PadTransform(kept, self.crop_size, value=self.pad_value))
        return TransformList(steps, (height, width))


class Letterbox(Augmentation):
    """Resizes an image, keeping its shape, to just fit into a size, and pads it evenly on both sides to that size."""

    def __init__(self, size: int | Sequence[int], pad_value: int = GREY) -> None:
        """Define the size: height and width in pixels, or one number for both.

        Raises:
            ConfigError: the size is unusable.
        """
        self.size, self.pad_value = as_size(size, "the size to fit images into (INPUT.SIZE)"), pad_value

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """The same for all images of a size."""
        new = fitting_size(height, width, self.size)
        resize = NoOpTransform(new) if new == (height, width) else ResizeTransform((height, width), new)
        top, left = (self.size[0] - new[0]) // 2, (self.size[1] - new[1]) // 2
        return TransformList([resize, PadTransform(new, self.size, top, left, self.pad_value)], (height, width))
