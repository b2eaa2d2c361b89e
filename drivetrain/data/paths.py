"""File names found in annotation files, resolved without ever leaving the image folder.

An annotation file comes from somewhere else and is not trusted: a name in it may be absolute, climb out with ``..`` or
pass through a link that leads elsewhere. None of these is opened.
"""

from __future__ import annotations

import os
from pathlib import Path

from drivetrain.errors import DatasetError

__all__ = ["FolderIndex", "resolve_inside"]

_FILE, _LINK, _OTHER = 0, 1, 2


def resolve_inside(root: str | os.PathLike[str], name: str) -> str:
    """The path of ``name`` below ``root``: ``root/name``, checked to lie inside it.

    The file need not exist. ``root`` itself may be a link.

    Raises:
        DatasetError: the name is empty, absolute, contains ``..``, or leads out of ``root`` through a link.
    """
    root = os.fspath(root)
    problem = _name_problem(name)
    path = os.path.join(root, name) if not problem else ""
    if not problem and not _is_inside(os.path.realpath(root), path):
        problem = "leads outside it through a link"
    if problem:
        raise DatasetError(f"file name {name!r} in image folder {root!r} {problem}; names must stay inside the folder")
    return path


class FolderIndex:
    """Which files exist below a folder, found by listing each folder once instead of asking for every file.

    Args:
        root: the image folder. It need not exist; then everything is missing.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root)
        self._real_root = os.path.realpath(self.root)
        self._listings: dict[str, dict[str, int] | None] = {}

    def path(self, name: str) -> str:
        """``root/name``, unchecked."""
        return os.path.join(self.root, name)

    def problem(self, name: str) -> tuple[str, str] | None:
        """What is wrong with ``name``: None, ``("unsafe", why)`` or ``("missing", why)``."""
        if why := _name_problem(name):
            return "unsafe", why
        folder, _, base = name.rpartition("/")
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        listing = self._listings[folder]
        if listing is None:
            return "unsafe", "leads outside the image folder through a link"
        kind = listing.get(base)
        if kind == _FILE:
            return None
        if kind is None:
            return "missing", "does not exist"
        return self._odd_problem(name, kind)

    def _odd_problem(self, name: str, kind: int) -> tuple[str, str] | None:
        """The same question for what is not a plain file: links are followed, the rest is refused."""
        path = self.path(name)
        if kind == _LINK and not _is_inside(self._real_root, path):
            return "unsafe", "leads outside the image folder through a link"
        return None if os.path.isfile(path) else ("missing", "is not a file")

    def _list(self, folder: str) -> dict[str, int] | None:
        """The names in ``root/folder`` and what each is; None when the folder lies outside the root."""
        path = os.path.join(self.root, folder)
        if not _is_inside(self._real_root, path):
            return None
        try:
            with os.scandir(path) as entries:
                return {entry.name: _kind(entry) for entry in entries}
        except OSError:
            return {}


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return _LINK
    return _FILE if entry.is_file(follow_symlinks=False) else _OTHER


def _name_problem(name: str) -> str:
    """What is wrong with the name itself, or ``""``."""
    if not name or name.endswith("/"):
        return "names no file"
    if "\0" in name:
        return "contains a zero byte"
    if not _is_encodable(name):
        return "contains characters that no file name can have"
    if os.path.isabs(name) or Path(name).drive:
        return "is an absolute path"
    if ".." in name and ".." in name.replace(os.sep, "/").split("/"):
        return "climbs out of the folder with '..'"
    return ""


def _is_encodable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _is_inside(real_root: str, path: str) -> bool:
    real = os.path.realpath(path)
    return real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)
