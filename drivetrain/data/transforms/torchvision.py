"""Any torchvision v2 transform as an augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import ConfigError

from .base import Augmentation, Size, Transform, TransformList

__all__ = ["FromTorchvision", "TorchvisionTransform"]

Array = np.ndarray[Any, Any]
_JOINT = ("RandomIoUCrop", "SanitizeBoundingBoxes", "CutMix", "MixUp")


@contextmanager
def _torch_seed(seed: int) -> Iterator[None]:
    """Seed PyTorch's global CPU generator, from which torchvision draws, for a block; put its state back after."""
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(state)


class TorchvisionTransform(Transform):
    """A torchvision transform whose chance is fixed by a seed, so that image, boxes and masks get the same."""

    def __init__(self, transform: torch.nn.Module, seed: int, input_size: Size) -> None:
        """Fix ``transform`` for images of (height, width) ``input_size`` by ``seed``."""
        self._transform, self._seed = transform, seed
        super().__init__(input_size)
        from torchvision import tv_tensors

        probe = tv_tensors.KeyPoints(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), canvas_size=input_size)
        moved = self._run(probe)
        self.output_size = (int(moved.canvas_size[0]), int(moved.canvas_size[1]))

    def _run(self, item: Any) -> Any:
        with _torch_seed(self._seed):
            return self._transform(item)

    def _image(self, image: Tensor) -> Tensor:
        from torchvision import tv_tensors

        return self._run(tv_tensors.Image(image)).as_subclass(torch.Tensor)  # type: ignore[no-any-return]

    def _mask(self, masks: Tensor) -> Tensor:
        from torchvision import tv_tensors

        return self._run(tv_tensors.Mask(masks)).as_subclass(torch.Tensor)  # type: ignore[no-any-return]

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), moved as the corners of boxes are.

        Not as torchvision's keypoints, which it takes to be the centres of pixels: it flips x to width - 1 - x, so
        that polygons would end up one pixel beside their boxes.
        """
        return self._boxes(np.tile(coords, 2), clamping_mode=None)[:, :2]

    def apply_boxes(self, boxes: Array) -> Array:
        """The boxes (N, 4), x0, y0, x1, y1, as torchvision moves and clips them."""
        return self._boxes(boxes)

    def _boxes(self, boxes: Array, **options: Any) -> Array:
        from torchvision import tv_tensors

        rows = tv_tensors.BoundingBoxes(
            torch.from_numpy(np.array(boxes).reshape(-1, 4)), format="XYXY", canvas_size=self.input_size, **options
        )
        return np.asarray(self._run(rows).as_subclass(torch.Tensor).numpy())


class FromTorchvision(Augmentation):
    """Wraps a ``torchvision.transforms.v2`` transform, also one with parts (``Compose``, ``RandomApply``).

    The transform draws from PyTorch's global generator, which is seeded for the call from the generator given to
    `draw` and put back after it. Image, boxes, points and masks go through one after the other from the same seed
    (the parts of a ``Compose`` each from their own), so transforms that look at the boxes to decide, or that remove
    some, cannot be used. Left and right keypoints are not exchanged: use `RandomFlip` where keypoints have sides.
    """

    def __init__(self, transform: torch.nn.Module) -> None:
        """Wrap ``transform``, which takes uint8 images (C, H, W) and must return uint8 images.

        Raises:
            ConfigError: it is not a torchvision v2 transform, or one that cannot be used here.
        """
        from torchvision.transforms import v2

        if not isinstance(transform, (v2.Transform, v2.Compose)):
            raise ConfigError(f"FromTorchvision takes a transform of torchvision.transforms.v2, not {transform!r}")
        bad = sorted({type(part).__name__ for part in _parts(transform)} & set(_JOINT))
        if bad:
            raise ConfigError(
                f"torchvision's {', '.join(bad)} cannot be used as an augmentation: it decides by all boxes of a "
                "sample at once or changes their number; the mapper removes empty boxes by itself"
            )
        self.transform = transform
        # Apart, because a part that draws for images only (noise) would shift what its successors draw.
        self._chain = _parts(transform, inside=v2.Compose)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> TransformList:
        """Draw a seed for the transform, or for each part of a ``Compose``."""
        size, drawn = (height, width), []
        for part in self._chain:
            drawn.append(TorchvisionTransform(part, int(rng.integers(2**62)), size))
            size = drawn[-1].output_size
        return TransformList(drawn, (height, width))


def _parts(transform: Any, inside: type | None = None) -> list[Any]:
    """``transform`` and the transforms it holds; with ``inside``, containers of that type give way to their parts."""
    held = getattr(transform, "transforms", [])
    if inside is not None:
        return [p for t in held for p in _parts(t, inside)] if isinstance(transform, inside) else [transform]
    return [transform, *(p for t in held for p in _parts(t))]
