"""Temporary folders that the processes of a training share, and the removal of those that killed ones left behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Occupancy", "make_shared_folder", "remove_deserted", "shared_folder"]

_PREFIX = "drivetrain-"
_MARK = ".occupied-"  # how the names of marks begin; the machine's name and random digits follow


class Occupancy:
    """Marks a folder as used by this process, until :meth:`end` or until the process ends, however it does.

    The mark is a file with a lock, which the system takes away from a process that is gone, and which processes in
    other containers see. Where there are no such locks the folder gets no mark, and nobody else removes it.

    Args:
        folder: an existing folder; marks of other processes may be in it.
    """

    def __init__(self, folder: str | Path) -> None:
        mark = _make_mark(Path(folder))
        self._release: Callable[[], object] = _nothing if mark is None else weakref.finalize(self, os.close, mark)

    def end(self) -> None:
        """Leave the folder."""
        self._release()


def make_shared_folder(kind: str, parent: str | Path) -> tuple[Path, Occupancy]:
    """A new folder ``drivetrain-<kind>...`` that only this user can read, occupied by this process.

    Deserted folders beside it are removed.

    Args:
        kind: a part of its name; may be empty.
        parent: the folder to make it in.

    Raises:
        OSError: it cannot be made.
    """
    remove_deserted(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX + kind, dir=parent))
    return folder, Occupancy(folder)


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """Such a folder where temporary files go; it is removed after the block."""
    folder, occupancy = make_shared_folder("", tempfile.gettempdir())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        occupancy.end()


def remove_deserted(parent: str | Path) -> None:
    """Remove this user's shared folders in ``parent`` whose processes, all of this machine, are gone.

    Links are not followed, and nothing is raised: what cannot be looked into or removed stays.
    """
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_deserted(Path(entry.path))


def _remove_if_deserted(folder: Path) -> None:
    """Remove a folder that has marks, all of them of this machine, if nobody holds their locks; OSError otherwise."""
    marks = [path for path in folder.iterdir() if path.name.startswith(_MARK)]
    if not marks or any(path.name.rpartition("-")[0] != _marks_of_this_machine() for path in marks):
        return
    if folder.lstat().st_uid != os.getuid():
        return
    with contextlib.ExitStack() as held:
        for path in marks:
            mark = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            held.callback(os.close, mark)
            _lock(mark)
        shutil.rmtree(folder, ignore_errors=True)


def _make_mark(folder: Path) -> int | None:
    """The descriptor of a new, locked file; None where that is not possible."""
    name = f"{_marks_of_this_machine()}-{secrets.token_hex(4)}"
    temporary = folder / f".new{name}"
    try:
        mark = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    try:
        _lock(mark)
        temporary.rename(folder / name)  # a mark is locked from its first moment on
    except OSError:
        os.close(mark)
        with contextlib.suppress(OSError):
            temporary.unlink()
        return None
    return mark


def _marks_of_this_machine() -> str:
    return _MARK + socket.gethostname()


def _lock(file: int) -> None:
    """Lock an open file for this process alone.

    Raises:
        OSError: another one has locked it, or there are no locks.
    """
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise OSError("this system has no such locks") from error
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _nothing() -> None:
    pass
