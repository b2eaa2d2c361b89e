"""Files in dataset folders: which there are, small ones read whole, images measured by their headers.

What lies in a dataset folder comes from somewhere else: a name may be a pipe that never ends, a file larger than any
label file is, an image that claims more pixels than fit into memory.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from drivetrain.data.images import FILE_FORMATS, MAX_PIXELS, UnreadableImageError
from drivetrain.errors import DatasetError

__all__ = ["IMAGE_SUFFIXES", "image_size", "is_passed_over", "list_files", "read_bytes", "read_lines", "stem_index"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
"""Ends of the names of image files, in lower case."""

_LEFT_BY_TOOLS = ("__MACOSX", "@eaDir")  # folders that archives of macOS and network storage bring along

_ORIENTATION = 0x0112  # the EXIF tag
_ON_ITS_SIDE = range(5, 9)  # orientations that exchange width and height


def list_files(root: str | os.PathLike[str], suffixes: Sequence[str], *, recursive: bool = True) -> list[str]:
    """The names of the files below ``root`` that end with one of ``suffixes``, whatever their case; sorted.

    Hidden files and folders are passed over, see `is_passed_over`, and linked folders are not entered.

    Args:
        root: a folder; one that does not exist has no files.
        suffixes: as ``".jpg"``, or longer ends of names as ``"_labels.png"``.
        recursive: also look into the folders below.

    Returns:
        Names relative to ``root``, with ``/`` between folders.
    """
    ends = tuple(suffix.lower() for suffix in suffixes)
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_passed_over(name)) if recursive else []
        below = os.path.relpath(folder, root)
        prefix = "" if below == os.curdir else below.replace(os.sep, "/") + "/"
        found += [prefix + name for name in files if name.lower().endswith(ends) and not is_passed_over(name)]
    return sorted(found)


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is no part of a dataset: hidden, or left by macOS or a file server."""
    return name.startswith(".") or name in _LEFT_BY_TOOLS


def stem_index(names: Sequence[str]) -> dict[str, str]:
    """Name without its suffix -> name; of several, the first in alphabetical order."""
    return {os.path.splitext(name)[0]: name for name in sorted(names, reverse=True)}


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a plain file of at most ``limit`` bytes.

    Raises:
        DatasetError: it is missing, not a plain file, larger, or cannot be read; names the file.
    """
    name = os.fspath(path)
    try:
        found = os.stat(name)
        if not stat.S_ISREG(found.st_mode):
            raise DatasetError(f"{name!r} cannot be read: it is not a file")
        if found.st_size > limit:
            raise DatasetError(
                f"{name!r} has {found.st_size:,} bytes, more than the {limit:,} that such a file can have"
            )
        return Path(name).read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{name!r} does not exist") from None
    except (OSError, ValueError) as err:  # a ValueError for names that no file can have
        if isinstance(err, DatasetError):
            raise
        raise DatasetError(f"{name!r} cannot be read: {getattr(err, 'strerror', None) or err}") from err


def read_lines(path: str | os.PathLike[str], limit: int) -> list[str]:
    """The lines of a UTF-8 text file of at most ``limit`` bytes, without white space around them.

    Raises:
        DatasetError: as :func:`read_bytes`, or it is not UTF-8; names the file.
    """
    try:
        text = read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise DatasetError(f"{os.fspath(path)!r} is not a text file (UTF-8): {err.reason} at byte {err.start}") from err
    return [line.strip() for line in text.split("\n")]


def image_size(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of an image file, upright as `read_image` gives it, from its header alone.

    Raises:
        UnreadableImageError: the file is missing, no image of a known format, damaged or too large; names the file.
    """
    name = os.fspath(path)
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            raise UnreadableImageError(f"image {name!r} cannot be read: it is not a file")
        with Image.open(name, formats=FILE_FORMATS) as image:
            width, height = image.size
            turned = _is_turned(image)
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError(f"image {name!r} does not exist") from None
    except UnidentifiedImageError:
        kinds = ", ".join(FILE_FORMATS)
        raise UnreadableImageError(f"image {name!r} is not an image of a known format ({kinds})") from None
    except Exception as err:  # decoders meet damaged files with almost any exception
        raise UnreadableImageError(f"image {name!r} is damaged or truncated: {err}") from err
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"image {name!r} has {width} x {height} = {width * height:,} pixels, over the limit of {max_pixels:,}"
        )
    return (width, height) if turned else (height, width)


def _is_turned(image: Image.Image) -> bool:
    """Whether the image lies on its side by its EXIF orientation."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode the pixels to look behind them
        return False
    value = 1
    with contextlib.suppress(Exception):  # a broken EXIF block does not make the picture unreadable
        value = int(image.getexif().get(_ORIENTATION, 1))
    return value in _ON_ITS_SIDE
