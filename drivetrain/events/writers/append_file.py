"""A file that grows by whole pieces, also on a disk that fails now and then."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["AppendFile"]


class AppendFile:
    """A file to which data is appended whole or not at all.

    What a failed write left behind is cut off: at once where the disk lets us, otherwise before the next write. Others
    may append to it too.

    Args:
        path: the file.
        new: whether it must not exist so far; otherwise it may, and is continued at its end.

    Raises:
        OSError: it cannot be opened (FileExistsError: it is to be new and exists).
    """

    def __init__(self, path: Path, *, new: bool = True) -> None:
        self.path = path
        self._new = new
        self._file = open(path, "xb" if new else "ab", buffering=0)  # noqa: SIM115 - stays open until close()
        self._whole = self._file.seek(0, os.SEEK_END)  # bytes that are as they should be
        self._failed = False  # whether something else may follow them

    def append(self, data: bytes) -> None:
        """Append all of ``data``; OSError when it cannot be, and then nothing of it is there."""
        if self._failed:
            self._cut()
        self._whole = self._file.seek(0, os.SEEK_END)
        self._failed = True
        try:
            written = self._file.write(data)
            while written < len(data):
                written += self._file.write(memoryview(data)[written:])
        except BaseException:
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._whole += len(data)
        self._failed = False

    def close(self) -> None:
        """Close the file; a new one that never got anything is removed. Calling it again does nothing."""
        if self._file.closed:
            return
        if self._failed:
            with contextlib.suppress(OSError):
                self._cut()
        try:
            self._file.close()
        finally:
            if self._new and self._whole == 0:
                with contextlib.suppress(OSError):
                    os.unlink(self.path)

    def _cut(self) -> None:
        if self._file.seek(0, os.SEEK_END) > self._whole:
            self._file.truncate(self._whole)
            self._file.seek(self._whole)
        self._failed = False
