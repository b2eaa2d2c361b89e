"""Stores of datasets that were converted from a file of the user's, kept on disk so that it is read once.

They lie in the user's cache folder and not beside the dataset: that may be read-only, and what comes with a dataset
is not trusted, a store that somebody put there included. Nothing in a store can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drivetrain.errors import DatasetError, OutputError

from .store import RecordStore

__all__ = ["FileVersion", "cache_folders", "cached_store", "file_version"]

logger = logging.getLogger(__name__)

FileVersion = tuple[int, int]
"""Size and time of the last change (ns) of a file, by which it is known to be the same."""

_VARIABLE = "DRIVETRAIN_CACHE"


def file_version(path: str | os.PathLike[str]) -> FileVersion | None:
    """The version of a file; None when there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def cache_folders() -> list[Path]:
    """Where stores are looked for and written, the first that can be written to.

    The folder that the environment variable ``DRIVETRAIN_CACHE`` names, or none at all if it is empty; without it, the
    user's cache folder, and a folder of the user's own among the temporary files.
    """
    named = os.environ.get(_VARIABLE)
    if named is not None:
        return [Path(named).expanduser()] if named else []
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    return [Path(base).expanduser() / "drivetrain", Path(tempfile.gettempdir()) / f"drivetrain-{owner}"]


def cached_store(path: str | os.PathLike[str], variant: str, make: Callable[[], RecordStore]) -> RecordStore:
    """The store that ``make`` makes of the file ``path``, from disk if it was made of the same version of it before.

    Of several processes that ask at once one makes it, and the others wait. Where nothing can be written the store
    stays in memory.

    Args:
        path: the file.
        variant: tells apart what is made of one file in several ways.
        make: makes the store; what it raises is raised, and nothing is written.
    """
    source = os.path.abspath(path)
    key = hashlib.sha256(f"{source}\0{variant}".encode("utf-8", "surrogateescape")).hexdigest()[:20]
    name, version = f"{Path(source).stem[:40]}-{key}", file_version(source)
    wanted = {"path": source, "variant": variant, "version": None if version is None else list(version)}
    folders = [folder / "datasets" for folder in cache_folders()]
    for folder in folders:
        if (found := _opened(folder / name, wanted)) is not None:
            return found
    for folder in filter(_is_usable, folders):
        with _lock(folder / f"{name}.lock"):
            found = _opened(folder / name, wanted)
            return _made(folder / name, wanted, make) if found is None else found
    return make()


def _opened(folder: Path, wanted: dict[str, Any]) -> RecordStore | None:
    """The store in ``folder`` if it is sound and the one that is wanted."""
    if not folder.is_dir() or not _is_own(folder):
        return None
    try:
        store = RecordStore.open(folder)
    except DatasetError:  # of another version of this package, or damaged: it is made anew
        return None
    return store if store.facts.get("source") == wanted else None


def _made(folder: Path, wanted: dict[str, Any], make: Callable[[], RecordStore]) -> RecordStore:
    """A new store, saved to ``folder``, read back and compared; the one in memory if that fails."""
    store = make()
    store.facts["source"] = wanted
    try:
        store.save(folder)
        saved = RecordStore.open(folder, verify=True)
    except (OutputError, DatasetError) as error:
        logger.warning("The converted dataset is kept in memory: %s", error)
        return store
    logger.info("Converted once and kept in %s (%.0f MB)", folder, saved.nbytes / 1e6)
    return saved


def _is_usable(folder: Path) -> bool:
    """Whether stores can be written to ``folder``, which is made, for the user alone."""
    try:
        for part in (folder.parent, folder):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK) and _is_own(folder.parent) and _is_own(folder)


def _is_own(folder: Path) -> bool:
    """Whether nobody else can have put something into ``folder``: it is the user's, or the one that was named."""
    if _VARIABLE in os.environ or not hasattr(os, "getuid"):
        return True
    try:
        found = folder.stat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; on file systems without locks, all: a store is replaced as a whole."""
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32":
            import fcntl

            with contextlib.suppress(OSError):
                file = stack.enter_context(open(path, "w"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
