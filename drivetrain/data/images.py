"""Image files as arrays or tensors, upright, with a limit on their size."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from drivetrain.errors import DatasetError, did_you_mean

from .pixels import as_image

__all__ = ["MAX_PIXELS", "ImageFile", "UnreadableImageError", "check_image_size", "convert_PIL_to_numpy", "read_image"]

UInt8Array = np.ndarray[Any, np.dtype[np.uint8]]
Size = tuple[int, int]

MAX_PIXELS = 64_000_000
"""The default limit on width times height: a small file may claim a size that fills all memory."""

FILE_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
CHANNEL_ORDERS = ("RGB", "BGR", "L")

_ORIENTATION = 0x0112  # the EXIF tag
_BYTES_PER_PIXEL = 8  # 16 bits of red, green, blue and opacity, not compressed
_OTHER_BYTES = 64_000_000  # what cameras add to the pixels
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


class UnreadableImageError(DatasetError):
    """An image that is missing, damaged, too large, of an unknown format or of another size than the dataset says.

    In training another image takes its place (see `drivetrain.data.quarantine`), also if a mapper of yours raises it.
    """


def read_image(path: str | os.PathLike[str], format: str | None = "RGB", *, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Read an image file, turned upright by its EXIF orientation.

    JPEG, PNG, BMP, TIFF, WEBP and GIF (the first frame) are read. Greyscale, palette and transparent images become what
    ``format`` asks for (transparency is dropped); of 16-bit samples the upper 8 bits are kept.

    Args:
        path: the file.
        format: the channels: ``"RGB"``, ``"BGR"`` or ``"L"`` (grey); None: RGB for colour, L for grey.
        max_pixels: a file whose header claims more pixels is not decoded.

    Returns:
        uint8, shape (height, width, channels), contiguous, its own memory.

    Raises:
        UnreadableImageError: the file is missing, not an image of these formats, too large or damaged; names file and
            reason.
        DatasetError: ``format`` is unknown.
    """
    _check_format(format)
    return ImageFile(path, format, max_pixels=max_pixels).array()


class ImageFile:
    """An image file whose header was read and whose pixels were not, so that its size can decide how to decode it.

    Attributes:
        name: the path.
        size: (height, width) in pixels, upright. To know it, all but a JPEG is decoded.
    """

    def __init__(
        self, path: str | os.PathLike[str], format: str | None = "RGB", *, max_pixels: int = MAX_PIXELS
    ) -> None:
        """Read the header; arguments and errors as of `read_image`, but for damage behind the header."""
        _check_format(format)
        self.name, self._format = os.fspath(path), format
        self._content = _content(self.name, max_pixels)
        with self._errors():
            self._image = self._opened()
            _check_pixels(self.name, self._image.size, max_pixels)
            self._is_jpeg = self._image.format == "JPEG"
            self._orientation = _orientation(self._image) if self._is_jpeg else 1
            self._pixels: UInt8Array | None = None

    def _opened(self) -> Image.Image:
        return Image.open(io.BytesIO(self._content), formats=FILE_FORMATS)

    @functools.cached_property
    def size(self) -> Size:
        """(height, width) in pixels, upright."""
        if not self._is_jpeg:
            return int(self.array().shape[0]), int(self.array().shape[1])
        width, height = self._image.size
        return (width, height) if self._orientation >= 5 else (height, width)

    def array(self) -> UInt8Array:
        """The pixels, as of `read_image`."""
        if self._pixels is None:
            with self._errors():
                self._pixels = self._decoded(1)
        return self._pixels

    def tensor(self, at_least: Size | None = None) -> Tensor:
        """The pixels as uint8 (C, H, W), in the layout of `drivetrain.data.pixels`.

        Args:
            at_least: when given, the decoder may scale the image down to a half, a quarter or an eighth (rounded up),
                as long as height and width stay no less than these. Only JPEG decoders can, with a fraction of the
                work: they leave out the high frequencies of each block.
        """
        part = 1 if at_least is None or not self._is_jpeg else _smallest_part(self.size, at_least)
        if part == 1:
            return as_image(self.array())
        with self._errors():
            return as_image(self._decoded(part))

    def _decoded(self, part: int) -> UInt8Array:
        """The pixels at 1 / ``part`` of the size, upright."""
        pixels = self._simplejpeg(part) if self._is_jpeg else None
        if pixels is None:
            image = self._image
            if part > 1:  # which changes the image object
                image = self._opened()
                image.draft(None, (image.width // part, image.height // part))
            pixels = convert_PIL_to_numpy(image, self._format)
            if not self._is_jpeg:  # it is known last: looking for it decodes a PNG, and hides what is wrong with it
                self._orientation = _orientation(self._image)
        return _upright(pixels, self._orientation)

    def _simplejpeg(self, part: int) -> UInt8Array | None:
        """A plain JPEG by simplejpeg, which is faster and gives Pillow's pixels; None where Pillow has to do it."""
        mode, format = self._image.mode, self._format
        if mode not in ("RGB", "L") or not _has_simplejpeg():
            return None
        grey = mode == "L" and format in ("L", None)
        if format == "L" and not grey:  # Pillow weighs the decoded colours; the file's own luma differs by rounding
            return None
        import simplejpeg

        colours = "GRAY" if grey else (format or "RGB")
        width, height = (-(-side // part) for side in self._image.size)
        try:
            pixels: UInt8Array = simplejpeg.decode_jpeg(
                self._content, colours, min_height=height, min_width=width, min_factor=part
            )
        except ValueError:  # odd or damaged: Pillow decides what it is
            return None
        return pixels if pixels.shape[:2] == (height, width) else None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn whatever is raised within the block into an `UnreadableImageError` that names the file."""
        name = self.name
        try:
            yield
        except UnreadableImageError:
            raise
        except DatasetError as err:
            raise UnreadableImageError(f"image {name!r}: {err}") from err
        except UnidentifiedImageError:
            kind = f"is not an image of a known format ({', '.join(FILE_FORMATS)})" if self._content else "is empty"
            raise UnreadableImageError(f"image {name!r} {kind}") from None
        except Image.DecompressionBombError as err:
            raise UnreadableImageError(f"image {name!r} is too large: {err}") from err
        except Exception as err:  # decoders meet damaged files with almost any exception
            raise UnreadableImageError(f"image {name!r} is damaged or truncated: {err}") from err


def convert_PIL_to_numpy(image: Image.Image, format: str | None = "RGB") -> UInt8Array:
    """The pixels of a PIL image as uint8 (height, width, channels); its EXIF orientation is not applied.

    Args:
        image: any 8-bit or 16-bit image.
        format: ``"RGB"``, ``"BGR"``, ``"L"``, or None: RGB for colour, L for grey.

    Raises:
        DatasetError: an unknown ``format``, or pixels that are floats or 32-bit integers, which have no fixed range.
    """
    _check_format(format)
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and image.format == "PNG"):
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode in ("F", "I"):
        raise DatasetError(f"pixels are of mode {image.mode!r} (floats or 32 bits); save the image with 8 or 16 bits")
    grey = format == "L" or (format is None and image.mode in ("1", "L", "LA"))
    image = image.convert("L" if grey else "RGB")
    pixels: UInt8Array = np.array(image, dtype=np.uint8)
    if grey:
        return pixels[:, :, np.newaxis]
    return np.ascontiguousarray(pixels[:, :, ::-1]) if format == "BGR" else pixels


def check_image_size(record: Mapping[str, Any], image: UInt8Array | ImageFile) -> None:
    """Check that ``image``, a file or an array (height, width, ...), has the size its dataset record says.

    Raises:
        UnreadableImageError: another size; names the file and both sizes. A record without a size fits every image.
    """
    height, width = image.size if isinstance(image, ImageFile) else map(int, image.shape[:2])
    wanted_width, wanted_height = record.get("width", width), record.get("height", height)
    if (wanted_width, wanted_height) == (width, height):
        return
    hint = ""
    if (wanted_width, wanted_height) == (height, width):
        hint = (
            ", as if it had been annotated without turning it by its EXIF orientation: take the orientation out of the "
            "file, or turn sizes and annotations in the dataset"
        )
    raise UnreadableImageError(
        f"image {record.get('file_name')!r} is {width} x {height} pixels, but the dataset says "
        f"{wanted_width} x {wanted_height}{hint}"
    )


def _check_format(format: str | None) -> None:
    if format is not None and format not in CHANNEL_ORDERS:
        hint = did_you_mean(str(format), CHANNEL_ORDERS)
        raise DatasetError(f"image format {format!r} is unknown{hint} (known: {', '.join(CHANNEL_ORDERS)})")


def _content(name: str, max_pixels: int) -> bytes:
    """The bytes of a plain file no larger than an image may be; a pipe or a device would never end."""
    limit = _BYTES_PER_PIXEL * max_pixels + _OTHER_BYTES
    try:
        found = os.stat(name)
        usable = stat.S_ISREG(found.st_mode) and found.st_size <= limit
        content = b""
        if usable:
            with open(name, "rb", buffering=0) as file:
                content = file.readall()
    except FileNotFoundError:
        raise UnreadableImageError(f"image {name!r} does not exist") from None
    except (OSError, ValueError) as err:  # a ValueError for names that no file can have
        raise UnreadableImageError(f"image {name!r} cannot be read: {getattr(err, 'strerror', None) or err}") from err
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImageError(f"image {name!r} cannot be read: it is not a file")
    if not usable:
        raise UnreadableImageError(
            f"image {name!r} has {found.st_size:,} bytes, more than an image of {max_pixels:,} pixels can have"
        )
    return content


def _check_pixels(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise UnreadableImageError(
            f"image {name!r} has {width} x {height} = {width * height:,} pixels, over the limit of {max_pixels:,}; "
            "scale it down or raise max_pixels (DATALOADER.MAX_PIXELS)"
        )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    value = 1
    with contextlib.suppress(Exception):  # a broken EXIF block does not make the picture unreadable
        value = int(image.getexif().get(_ORIENTATION, 1))
    return value if 1 <= value <= 8 else 1


def _upright(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Undo the turning and mirroring that an EXIF orientation says was done."""
    if orientation == 1:
        return pixels
    turned: dict[int, UInt8Array] = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: pixels.swapaxes(0, 1)[:, ::-1],
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: pixels.swapaxes(0, 1)[::-1],
    }
    return np.ascontiguousarray(turned[orientation])


@functools.cache
def _has_simplejpeg() -> bool:
    return importlib.util.find_spec("simplejpeg") is not None


def _smallest_part(size: Size, at_least: Size) -> int:
    """The largest of 8, 4, 2 such that a size divided by it, rounded up, is not below another one; else 1."""
    pairs = list(zip(size, at_least, strict=True))
    return next((n for n in (8, 4, 2) if all(side >= n and -(-side // n) >= least for side, least in pairs)), 1)
