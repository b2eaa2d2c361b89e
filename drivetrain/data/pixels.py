"""The memory layout of images on their way through the mapper: pixels of four bytes, where that is faster.

The pixels of a decoded colour image lie three bytes apart, which processors neither load nor take apart well. The
decoder can put them four bytes apart instead. Such an image is still a uint8 tensor (3, H, W), as everything takes it,
of strides (row, 4 and 1 for its rows, columns and channels); what knows the layout works on all four bytes at once.
"""

from __future__ import annotations

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

    Words are taken apart as words, other images copied channel by channel; both are several times faster than the copy
    of a transposed array.
    """
    if image.is_contiguous():
        return image
    planes = torch.empty(image.shape, dtype=image.dtype)
    if with_padding(image) is not None:
        _take_apart(image, planes.numpy())
        return planes
    for channel, plane in zip(image.numpy(), planes.numpy(), strict=True):
        plane[...] = channel
    return planes


def _take_apart(image: Tensor, planes: Array) -> None:
    """Copy an image (3, H, W) of words to planes (3, H, W).

    The byte of a channel is the lowest one of the word that begins there, and numpy cuts many words at a time down to
    it. The last row is copied byte by byte: the words of its last pixel would end behind the image.
    """
    (_, height, width), (_, row, pixel) = image.shape, image.stride()
    starts = [image.storage_offset() + channel for channel in range(3)]
    bytes_at = [image.as_strided((height - 1, width, pixel), (row, pixel, 1), start).numpy() for start in starts]
    words = [each.view("<u4")[..., 0] for each in bytes_at]
    rows = max(_BAND // width, 1)
    for top in range(0, height - 1, rows):
        for plane, word in zip(planes[:, :-1], words, strict=True):
            np.copyto(plane[top : top + rows], word[top : top + rows], casting="unsafe")
    planes[:, -1] = image[:, -1].numpy()
