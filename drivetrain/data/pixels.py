"""The memory layout of images on their way through the mapper: pixels of four bytes, where that is faster.

The pixels of a decoded colour image lie three bytes apart, which processors neither load nor take apart well. The
decoder can put them four bytes apart instead. Such an image is still a uint8 tensor (3, H, W), as everything takes it,
of strides (row, 4 and 1 for its rows, columns and channels); what knows the layout works on all four bytes at once.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_image", "to_planes", "with_padding"]

Array = np.ndarray[Any, Any]

_BAND = 64_000  # pixels that are taken apart at a time: they stay in the processor's cache


def as_image(pixels: Array) -> Tensor:
    """The view (C, H, W) of an array (H, W, C) or (H, W); a copy only of one with negative strides.

    Four channels stand for words: their view has the first three.
    """
    if any(stride < 0 for stride in pixels.strides):
        pixels = np.ascontiguousarray(pixels)
    view = torch.from_numpy(pixels)
    return view[None] if view.ndim == 2 else view.permute(2, 0, 1)[:3]


def with_padding(image: Tensor) -> Tensor | None:
    """The view (4, H, W) of an image (3, H, W) whose pixels are words of four bytes; None of any other image."""
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8 or image.numel() == 0:
        return None
    (channel, row, pixel), (_, height, width) = image.stride(), image.shape
    start = image.storage_offset()
    if (channel, pixel) != (1, 4) or start % 4 or row % 4 or row < 4 * width:
        return None
    if start + (height - 1) * row + 4 * width > image.untyped_storage().nbytes():
        return None  # a view whose last pixel has no fourth byte
    return image.as_strided((4, height, width), (channel, row, pixel))


def to_planes(image: Tensor) -> Tensor:
    """A contiguous tensor (C, H, W) of an image in any layout: the image itself where it is one already.

    Words are taken apart by shifting them, other images copied channel by channel; both are several times faster than
    the copy of a transposed array.
    """
    if image.is_contiguous():
        return image
    planes = torch.empty(image.shape, dtype=image.dtype)
    padded = with_padding(image) if sys.byteorder == "little" else None
    if padded is not None:
        _shift_apart(padded.permute(1, 2, 0).numpy().view(np.uint32)[..., 0], planes.numpy())
        return planes
    for channel, plane in zip(image.numpy(), planes.numpy(), strict=True):
        plane[...] = channel
    return planes


def _shift_apart(words: Array, planes: Array) -> None:
    """The lower three bytes of words (H, W), uint32, as planes (3, H, W), uint8."""
    rows = max(_BAND // words.shape[1], 1)
    for top in range(0, len(words), rows):
        band, (first, second, third) = words[top : top + rows], planes[:, top : top + rows]
        np.copyto(first, band, casting="unsafe")
        np.right_shift(band, 8, out=second, casting="unsafe")
        np.right_shift(band, 16, out=third, casting="unsafe")
