"""Images that cannot be read: told once, kept in a list, and tolerated up to a budget."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drivetrain.errors import DatasetError

__all__ = ["BadImage", "Quarantine"]

logger = logging.getLogger(__name__)

_NAMED = 10  # files in an error


@dataclass(frozen=True)
class BadImage:
    """An image for which another one was taken.

    Attributes:
        file: its file.
        image_id: its id in the dataset.
        reason: why it cannot be used: a sentence that names the file.
    """

    file: str
    image_id: int | str | None
    reason: str


class Quarantine:
    """The images of a training set that cannot be read, over all ranks and all resumes of a training.

    The list is a file of one JSON object a line: ``file``, ``image_id``, ``reason``. It is looked at only when a bad
    image turns up; every rank adds to it what it is the first to find. It decides nothing but when training stops: an
    image on it that can be read again is used again.

    Args:
        path: the file; None keeps the list in memory.
        fraction: how much of the dataset may be bad (``DATALOADER.MAX_BAD_IMAGES``).
        num_images: the size of the dataset. Of fewer than 1 / fraction images, none may be bad.

    Attributes:
        allowed: how many images may be bad.
    """

    def __init__(self, path: str | os.PathLike[str] | None, fraction: float, num_images: int) -> None:
        self.allowed = int(fraction * num_images + 1e-9)  # 0.001 of 3,000 is 3, whatever floats make of it
        self._path = None if path is None else Path(path)
        self._fraction, self._num_images = fraction, num_images
        self._files: dict[str, None] = {}  # a set that keeps the order
        self._writable = True

    def add(self, images: Iterable[BadImage]) -> None:
        """Note images that were replaced.

        Raises:
            DatasetError: there are more bad images than allowed; the message names them, and the list.
        """
        torn = self._read()
        latest = None
        for latest in images:
            if latest.file in self._files:
                continue
            self._files[latest.file] = None
            torn = self._write(latest, torn)
            if len(self._files) <= self.allowed:
                logger.warning(
                    "%s; another image takes its place (%d of at most %d)",
                    latest.reason,
                    len(self._files),
                    self.allowed,
                )
        if latest is not None and len(self._files) > self.allowed:
            raise DatasetError(self._complaint(latest))

    def _read(self) -> bool:
        """Take up what the file holds; whether its last line is cut off."""
        if self._path is None:
            return False
        try:
            content = self._path.read_bytes()
        except OSError:
            return False
        for line in content.splitlines():
            if isinstance(file := _file_of(line), str):
                self._files.setdefault(file)
        return not content.endswith(b"\n") and content != b""

    def _write(self, image: BadImage, torn: bool) -> bool:
        """Append a line, in one write, as other ranks may do the same; whether the last line is cut off after it."""
        if self._path is None or not self._writable:
            return torn
        line = ("\n" if torn else "") + json.dumps(asdict(image), default=str) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as error:  # a full disk does not end a training
            self._writable = False
            logger.warning(
                "The list of bad images %r cannot be written (%s); it is kept in memory",
                str(self._path),
                error.strerror or error,
            )
        return False

    def _complaint(self, latest: BadImage) -> str:
        count = len(self._files)
        share = f"{self.allowed} of {self._num_images:,} images"
        allowed = f"DATALOADER.MAX_BAD_IMAGES = {self._fraction:g}, which allows {share}"
        listed = f" and delete {str(self._path)!r}, where they are listed" if self._path is not None else ""
        if count == 1:
            return f"{latest.reason}; repair it or take it out of the dataset{listed}, or raise {allowed}"
        names = ", ".join(map(repr, list(self._files)[:_NAMED]))
        more = f" and {count - _NAMED:,} more" if count > _NAMED else ""
        return (
            f"{count:,} images cannot be used: {names}{more}, the last one because {latest.reason}; repair them or "
            f"take them out of the dataset{listed}, or raise {allowed}"
        )


def _file_of(line: bytes) -> Any:
    """The file that a line of the list names, None for a line that is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry.get("file") if isinstance(entry, dict) else None
