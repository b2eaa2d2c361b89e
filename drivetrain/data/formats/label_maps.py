"""Label maps as files: a class for each pixel in one channel, or a segment for each pixel in the colours of a PNG.

Panoptic PNGs hold a segment's id as ``red + 256 * green + 65536 * blue``, 0 for no segment; see
https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from drivetrain.data.images import MAX_PIXELS, UnreadableImageError
from drivetrain.errors import DatasetError

from .folder_files import read_bytes

__all__ = ["read_label_map", "read_panoptic_map", "write_label_map", "write_panoptic_map"]

Array = np.ndarray[Any, Any]

MAP_FORMATS = ("PNG", "TIFF", "BMP")  # without loss
_BYTES_PER_PIXEL = 4
_OTHER_BYTES = 1 << 24
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_SPREAD = {"L;2": 85, "L;4": 17}  # Pillow spreads 2 and 4 bits of grey over 0 to 255


def read_label_map(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Array:
    """The label of each pixel, from a PNG, TIFF or BMP file with a palette or grey levels of 1 to 16 bits.

    Args:
        path: the file.
        max_pixels: a file whose header claims more pixels is not decoded.

    Returns:
        (height, width), uint8, or uint16 where the file has 16 bits.

    Raises:
        UnreadableImageError: the file is missing, damaged, too large, or has colours; names it.
    """
    mode, pixels = _read(path, max_pixels)
    if pixels.ndim != 2 or mode not in ("1", "L", "P", *_SIXTEEN_BIT):
        raise UnreadableImageError(
            f"label map {os.fspath(path)!r} has the mode {mode!r}; it must have a palette or one channel of grey, "
            "whose values are the labels"
        )
    if mode in _SIXTEEN_BIT:
        if pixels.size and not 0 <= int(pixels.min()) <= int(pixels.max()) < 1 << 16:
            raise UnreadableImageError(f"label map {os.fspath(path)!r} has labels that do not fit into 16 bits")
        return pixels.astype(np.uint16)
    return pixels.astype(np.uint8)


def read_panoptic_map(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Array:
    """The segment id of each pixel, int32 (height, width), from a panoptic PNG.

    Raises:
        UnreadableImageError: the file is missing, damaged, too large, or not in colour; names it.
    """
    mode, pixels = _read(path, max_pixels)
    if mode not in ("RGB", "RGBA"):
        raise UnreadableImageError(
            f"panoptic map {os.fspath(path)!r} has the mode {mode!r}; it must be in colour, whose red + 256 green + "
            "65536 blue is a segment's id"
        )
    red, green, blue = (pixels[:, :, channel].astype(np.int32) for channel in range(3))
    return np.asarray(red | green << 8 | blue << 16)


def write_label_map(path: str | os.PathLike[str], labels: Array) -> None:
    """Write a label map (height, width), uint8 or uint16, as a PNG of grey levels."""
    if labels.dtype not in (np.uint8, np.uint16) or labels.ndim != 2:
        raise ValueError(f"a label map is uint8 or uint16 (height, width), but {labels.dtype} {labels.shape} was given")
    Image.fromarray(np.ascontiguousarray(labels)).save(path, "PNG")


def write_panoptic_map(path: str | os.PathLike[str], ids: Array) -> None:
    """Write segment ids (height, width), whole numbers of 0 to 2**24 - 1, as a panoptic PNG."""
    if ids.ndim != 2 or (ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < 1 << 24):
        raise ValueError(f"segment ids are (height, width) of 0 to 2**24 - 1, but {ids.dtype} {ids.shape} was given")
    colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(path, "PNG")


def _read(path: str | os.PathLike[str], max_pixels: int) -> tuple[str, Array]:
    """Mode and pixels of a map."""
    name = os.fspath(path)
    try:
        content = read_bytes(name, _BYTES_PER_PIXEL * max_pixels + _OTHER_BYTES)
    except DatasetError as err:
        raise UnreadableImageError(f"label map {err}") from err
    try:
        with Image.open(io.BytesIO(content), formats=MAP_FORMATS) as image:
            width, height = image.size
            if width * height <= max_pixels:
                return image.mode, _pixels(image)
    except UnidentifiedImageError:
        raise UnreadableImageError(f"label map {name!r} is no image of {', '.join(MAP_FORMATS)}") from None
    except Exception as err:  # decoders meet damaged files with almost any exception
        raise UnreadableImageError(f"label map {name!r} is damaged or truncated: {err}") from err
    raise UnreadableImageError(
        f"label map {name!r} has {width} x {height} = {width * height:,} pixels, over the limit of {max_pixels:,}"
    )


def _pixels(image: Image.Image) -> Array:
    tiles: Any = getattr(image, "tile", ())  # gone once the pixels are decoded
    layout = tiles[0].args if len(tiles) == 1 else None
    pixels = np.asarray(image)
    spread = _SPREAD.get(layout, 1) if isinstance(layout, str) else 1
    return pixels // spread if spread > 1 else pixels
