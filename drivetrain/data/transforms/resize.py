"""Resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from drivetrain.data.pixels import resized
from drivetrain.errors import ConfigError

from .base import Augmentation, NoOpTransform, Size, Transform, TransformList, load_kernels
from .flip import FlipTransform

__all__ = ["ResizeShortestEdge", "ResizeTransform", "for_decoded", "scaled_size", "shortest_edge_size"]

Array = np.ndarray[Any, Any]


def shortest_edge_size(height: int, width: int, short_edge: int, max_size: int) -> Size:
    """The (height, width) that detectron2 resizes an image of ``height`` x ``width`` to.

    The shorter edge becomes ``short_edge`` unless the longer one would exceed ``max_size``, in which case that one
    becomes ``max_size``. Edges are rounded half up, from products taken in this order (it decides some last bits).
    """
    scale = short_edge / min(height, width)
    new_height, new_width = (
        (float(short_edge), scale * width) if height < width else (scale * height, float(short_edge))
    )
    if max(new_height, new_width) > max_size:
        scale = max_size / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return max(int(new_height + 0.5), 1), max(int(new_width + 0.5), 1)


class ResizeTransform(Transform):
    """Stretches an image to another size: bilinear with antialiasing for images, nearest for masks."""

    def __init__(self, input_size: Size, output_size: Size, *, antialias: bool = True) -> None:
        """From (height, width) ``input_size`` to ``output_size``.

        Args:
            input_size: of the images it is for.
            output_size: of the images it makes.
            antialias: average over the pixels that fall together when shrinking (as Pillow does).
        """
        super().__init__(input_size, output_size)
        self._antialias = antialias
        self._scale = np.array([output_size[1] / input_size[1], output_size[0] / input_size[0]])

    def _image(self, image: Tensor) -> Tensor:
        return resized(image, self.output_size, antialias=self._antialias)

    def _mask(self, masks: Tensor) -> Tensor:
        from torchvision.transforms.v2 import functional

        return functional.resize_mask(masks, list(self.output_size))  # type: ignore[no-any-return]

    def resized_from(self, size: Size) -> ResizeTransform:
        """The transform to the same output size of images of (height, width) ``size``."""
        return ResizeTransform(size, self.output_size, antialias=self._antialias)

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), scaled."""
        return np.asarray(coords * self._scale.astype(coords.dtype))

    def apply_boxes(self, boxes: Array) -> Array:
        """The boxes (N, 4), scaled."""
        return self.apply_coords(boxes.reshape(-1, 2)).reshape(-1, 4)


def scaled_size(transform: TransformList) -> Size | None:
    """The (height, width) that an image is resized to before anything else happens to it; None if something else is.

    An image that was decoded at a smaller size than its own, but not much smaller than this one, can stand for it:
    see `for_decoded`.
    """
    first = _steps(transform)[:1]
    return first[0].output_size if first and isinstance(first[0], ResizeTransform) else None


def for_decoded(transform: TransformList, size: Size) -> TransformList:
    """What ``transform`` does to an image, for its pixels alone, decoded at (height, width) ``size``.

    A flip after a resize that enlarges is done before it, on fewer pixels; they come out as the same.

    Args:
        transform: whose boxes and masks, which are of the whole image, go through it as it is.
        size: of the decoded image; another one than the transform's if that has a `scaled_size`.

    Raises:
        ValueError: the size is another one, and the transform does not begin with a resize.
    """
    steps = _steps(transform)
    if not steps or not isinstance(steps[0], ResizeTransform):
        if size != transform.input_size:
            raise ValueError(f"an image decoded at {size} has to be resized first, but {steps[:1]} are the first steps")
        return transform
    resize, *rest = steps[0].resized_from(size), *steps[1:]
    if rest and isinstance(rest[0], FlipTransform) and math.prod(size) < math.prod(resize.output_size):
        flip = FlipTransform(size, horizontal=rest[0].horizontal)
        return TransformList([flip, resize, *rest[1:]], size)
    return TransformList([resize, *rest], size)


def _steps(transform: Transform) -> list[Transform]:
    """The single transforms of which one consists, but for those that change nothing."""
    if isinstance(transform, TransformList):
        return [step for part in transform.transforms for step in _steps(part)]
    return [] if isinstance(transform, NoOpTransform) else [transform]


class ResizeShortestEdge(Augmentation):
    """Resizes so that the shorter edge has a size drawn from some choices and the longer one stays within a limit."""

    def __init__(
        self,
        sizes: int | Sequence[int],
        max_size: int = 2**31 - 1,
        sample_style: str = "choice",
        *,
        antialias: bool = True,
    ) -> None:
        """Define the choices.

        Args:
            sizes: lengths of the shorter edge in pixels to choose from, or (smallest, largest) with style "range"; 0
                leaves the image as it is.
            max_size: the longest the longer edge may become, in pixels.
            sample_style: "choice" or "range".
            antialias: see `ResizeTransform`.

        Raises:
            ConfigError: one of these is unusable.
        """
        load_kernels()
        choices = (sizes,) if isinstance(sizes, (int, np.integer)) else tuple(sizes)
        if sample_style not in ("choice", "range"):
            raise ConfigError(f"INPUT.MIN_SIZE_TRAIN_SAMPLING must be 'choice' or 'range', not {sample_style!r}")
        if not choices or any(isinstance(s, bool) or int(s) != s or s < 0 for s in choices):
            raise ConfigError(
                f"the sizes of the shorter edge (INPUT.MIN_SIZE_TRAIN or MIN_SIZE_TEST) must be one or more "
                f"integers of 0 or more, not {sizes!r}"
            )
        if sample_style == "range":
            if len(choices) == 1:
                choices = choices * 2
            if len(choices) != 2 or choices[0] > choices[1]:
                raise ConfigError(
                    "with sampling style 'range' the sizes of the shorter edge (INPUT.MIN_SIZE_TRAIN) must be "
                    f"(smallest, largest), not {sizes!r}"
                )
        if max_size < 1:
            raise ConfigError(
                f"the longest edge (INPUT.MAX_SIZE_TRAIN or MAX_SIZE_TEST) must be 1 or more, not {max_size!r}"
            )
        self.sizes = tuple(int(s) for s in choices)
        self.max_size, self.sample_style, self.antialias = int(max_size), sample_style, antialias

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """Draw the length of the shorter edge."""
        if self.sample_style == "range":
            short = int(rng.integers(self.sizes[0], self.sizes[1] + 1))
        else:
            short = self.sizes[int(rng.integers(len(self.sizes)))]
        if short == 0:
            return NoOpTransform((height, width))
        size = shortest_edge_size(height, width, short, self.max_size)
        if size == (height, width):
            return NoOpTransform(size)
        return ResizeTransform((height, width), size, antialias=self.antialias)
