"""Images of different sizes as one padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["ImageList"]


class ImageList:
    """N images of different sizes, padded at the right and at the bottom to one size.

    Attributes:
        tensor: the batch, shape (N, H, W) or (N, C, H, W).
        image_sizes: (height, width) of each image without its padding, in pixels.
    """

    def __init__(self, tensor: Tensor, image_sizes: Sequence[tuple[int, int]]) -> None:
        """Hold an already padded batch and the true sizes of its images."""
        self.tensor = tensor
        self.image_sizes = list(image_sizes)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.image_sizes)

    def __getitem__(self, index: int) -> Tensor:
        """One image without its padding, a view of shape (..., height, width)."""
        height, width = self.image_sizes[index]
        return self.tensor[index, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> ImageList:
        """The same batch, moved as ``Tensor.to`` would."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        """Where the batch lies."""
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: Mapping[str, int] | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> ImageList:
        """Pad ``tensors`` to the largest height and the largest width among them.

        Args:
            tensors: images of shape (H_i, W_i) or (C, H_i, W_i), alike in all but the last two sizes.
            size_divisibility: the padded height and width become multiples of it; 0 or 1 asks for none.
            pad_value: what the padding holds.
            padding_constraints: further conditions: ``square_size``, the least height and width, where it is above 0,
                and a ``size_divisibility`` that goes before the argument of that name.
            dtype: of the batch; None: that of the first image.

        Raises:
            ValueError: there is no image, or the images differ in more than height and width.
        """
        if not tensors:
            raise ValueError("nothing to batch: the list of images is empty")
        leading = tensors[0].shape[:-2]
        if any(image.shape[:-2] != leading or image.ndim < 2 for image in tensors):
            shapes = [tuple(image.shape) for image in tensors]
            raise ValueError(f"images of one batch have the same channels, but these shapes were received: {shapes}")
        sizes = [(image.shape[-2], image.shape[-1]) for image in tensors]
        constraints = padding_constraints or {}
        divisor, least = constraints.get("size_divisibility", size_divisibility), constraints.get("square_size", 0)
        height = _round_up(max(least, *(h for h, _ in sizes)), divisor)
        width = _round_up(max(least, *(w for _, w in sizes)), divisor)
        shape = (len(tensors), *leading, height, width)
        full = all(size == (height, width) for size in sizes)
        first = tensors[0]
        batch = first.new_empty(shape, dtype=dtype) if full else first.new_full(shape, pad_value, dtype=dtype)
        for i, (image, (h, w)) in enumerate(zip(tensors, sizes, strict=True)):
            batch[i, ..., :h, :w].copy_(image)
        return ImageList(batch, sizes)


def _round_up(size: int, divisor: int) -> int:
    """The smallest multiple of ``divisor`` that is not below ``size``."""
    return size if divisor <= 1 else -(-size // divisor) * divisor
