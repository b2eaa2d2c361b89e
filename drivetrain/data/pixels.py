"""The memory layout of images on their way through the mapper: the channels of a pixel side by side, as decoded.

Such an image is a uint8 tensor (C, H, W) like any other, whose strides are (1, row, C). Copying it to planes takes as
long as decoding it; it is left to whoever puts images into a batch, which has to copy them anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_image", "blank", "resized", "reversed_channels"]

Array = np.ndarray[Any, Any]


def as_image(pixels: Array) -> Tensor:
    """The view (C, H, W) of an array (H, W, C) or (H, W); a copy only of one with negative strides."""
    if any(stride < 0 for stride in pixels.strides):
        pixels = np.ascontiguousarray(pixels)
    view = torch.from_numpy(pixels)
    return view[None] if view.ndim == 2 else view.permute(2, 0, 1)


def blank(like: Tensor, size: Sequence[int], value: int) -> Tensor:
    """An image of (height, width) ``size`` with one value everywhere, with the channels and layout of another one."""
    channels = like.shape[0]
    if like.stride(0) == 1 and channels > 1:
        return like.new_full((*size, channels), value).permute(2, 0, 1)
    return like.new_full((channels, *size), value)


def reversed_channels(image: Tensor) -> Tensor:
    """A copy of an image (C, H, W) with its channels in reverse order, in the layout that it has."""
    out = torch.empty_like(image)
    # Channel by channel: where they lie side by side, `flip` takes several times as long.
    for channel, copy in zip(image.numpy()[::-1], out.numpy(), strict=True):
        copy[...] = channel
    return out


def resized(image: Tensor, size: Sequence[int], *, antialias: bool = True) -> Tensor:
    """An image uint8 (C, H, W), resized bilinearly to (height, width) ``size``; colours keep their layout."""
    from torchvision.transforms.v2 import functional

    if image.shape[0] != 3 or image.stride(0) != 1 or image.dtype != torch.uint8:
        return functional.resize_image(image, list(size), antialias=antialias)  # type: ignore[no-any-return]
    # PyTorch's kernel leaves pixels together where the batch of one, too, has the strides of a batch of such images:
    # the view that image[None] gives has not, and costs taking all pixels apart and putting them together.
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(batch, size=list(size), mode="bilinear", antialias=antialias)[0]
