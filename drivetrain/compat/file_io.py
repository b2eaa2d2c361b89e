"""Files by iopath's calls, on this machine's disk alone."""

from __future__ import annotations

import builtins
import os
import shutil
from pathlib import Path
from typing import IO, Any

from drivetrain.errors import UserInputError

__all__ = ["LocalPathManager", "PathManager"]


class LocalPathManager:
    """What iopath's ``PathManager`` does with paths of the local disk; addresses are refused, nothing is fetched."""

    def open(self, path: str | os.PathLike[str], mode: str = "r", buffering: int = -1, **options: Any) -> IO[Any]:
        """``open`` of Python."""
        return builtins.open(_local(path), mode, buffering, **options)

    def get_local_path(self, path: str | os.PathLike[str], force: bool = False, **options: Any) -> str:
        """The path itself."""
        return _local(path)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is something at the path."""
        return os.path.exists(_local(path))

    def isfile(self, path: str | os.PathLike[str]) -> bool:
        """Whether it is a file."""
        return os.path.isfile(_local(path))

    def isdir(self, path: str | os.PathLike[str]) -> bool:
        """Whether it is a folder."""
        return os.path.isdir(_local(path))

    def ls(self, path: str | os.PathLike[str]) -> list[str]:
        """The names in a folder, sorted."""
        return sorted(os.listdir(_local(path)))

    def mkdirs(self, path: str | os.PathLike[str]) -> None:
        """Make a folder and those above it, unless they are there."""
        os.makedirs(_local(path), exist_ok=True)

    def rm(self, path: str | os.PathLike[str]) -> None:
        """Remove a file."""
        Path(_local(path)).unlink()

    def copy(self, src_path: str | os.PathLike[str], dst_path: str | os.PathLike[str], overwrite: bool = False) -> bool:
        """Copy a file; False when ``dst_path`` exists and is not to be overwritten."""
        if not overwrite and self.exists(dst_path):
            return False
        shutil.copyfile(_local(src_path), _local(dst_path))
        return True

    def register_handler(self, handler: Any, allow_override: bool = False) -> None:
        """Accepted, so that scripts run; what it would fetch is refused when it is asked for."""


def _local(path: str | os.PathLike[str]) -> str:
    """The path, if it is one of this machine.

    Raises:
        UserInputError: it is an address.
    """
    text = os.fspath(path)
    if text.startswith("file://"):
        return text.removeprefix("file://")
    if "://" in text:
        raise UserInputError(f"{text!r} is an address, and nothing is downloaded: fetch the file and give its path")
    return text


PathManager = LocalPathManager()
"""The one that scripts import by this name."""
