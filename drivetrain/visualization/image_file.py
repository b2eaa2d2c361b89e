"""Images to files and to bytes."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.errors import OutputError

__all__ = ["encode_image", "save_image"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def encode_image(image: np.ndarray[Any, Any], kind: str = "PNG") -> bytes:
    """A picture file as bytes.

    Args:
        image: uint8 array (height, width, 3), RGB.
        kind: ``"PNG"`` or ``"JPEG"`` (quality 90).
    """
    buffer = io.BytesIO()
    options = {"quality": 90, "subsampling": 0} if kind == "JPEG" else {"compress_level": 4}
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def save_image(path: str | os.PathLike[str], image: np.ndarray[Any, Any]) -> Path:
    """Write a picture; the file appears whole or not at all, and its folder is made when missing.

    Args:
        path: the file; ``.png``, ``.jpg`` or ``.jpeg`` say the format.
        image: uint8 array (height, width, 3), RGB.

    Returns:
        The path.

    Raises:
        OutputError: the suffix is another, or the file cannot be written.
    """
    path = Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"pictures are written as .png, .jpg or .jpeg, but {str(path)!r} was asked for")
    write_atomically(path, encode_image(image, kind))
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file through a temporary one beside it; OutputError when it cannot be written."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True) if temporary else None
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}): choose another output folder"
        ) from error


def _umask() -> int:
    """The process' umask; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
