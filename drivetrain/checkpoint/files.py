"""Writing a file so that a crash at any moment leaves the old content or the new, never a part.

The order is: write under a temporary name in the same folder, flush and fsync, read back and compare the
SHA-256, rename over the final name, fsync the folder. Every access goes through a `FileLayer`, so that tests
can record the operations, stop at each of them, or make them fail.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from drivetrain.errors import CheckpointError, OutputError

__all__ = ["FileLayer", "Written", "atomic_write", "check_file_name", "clean_leftovers", "file_digest"]

_CHUNK = 1 << 20
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_PROCESS = secrets.token_hex(4)
# .<final name>.<host>-<pid>-<process token>-<random>.tmp
_TEMPORARY = re.compile(r"^\..+\.([0-9a-f]{8})-(\d+)-([0-9a-f]{8})-[0-9a-f]{8}\.tmp$")
_ABANDONED_AFTER = 24 * 3600.0


@dataclass(frozen=True)
class Written:
    """What was written: number of bytes and SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


class FileLayer:
    """The file operations that saving uses, one method each."""

    def create(self, path: Path) -> IO[bytes]:
        """Make a new file; an existing one is an error."""
        return open(path, "xb")

    def write(self, handle: IO[bytes], data: bytes | memoryview) -> None:
        """Append bytes to an open file."""
        handle.write(data)

    def sync(self, handle: IO[bytes]) -> None:
        """Bring an open file's content to the disk."""
        handle.flush()
        _fsync(handle.fileno())

    def replace(self, source: Path, target: Path) -> None:
        """Rename over the target in one step."""
        os.replace(source, target)

    def sync_folder(self, folder: Path) -> None:
        """Bring a folder's entries (names) to the disk, where the system knows this."""
        if os.name == "nt":  # Windows cannot open folders; a rename is durable with the journal
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Delete a file; a missing one is no error."""
        path.unlink(missing_ok=True)


def _fsync(descriptor: int) -> None:
    """Bring what is open to the disk, unless its file system does not know this (some network disks, of folders)."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


class _HashingWriter:
    """What a writer function gets: counts and hashes all that passes, and keeps the first error.

    The error is kept because `torch.save` closes its archive after a failed write, fails again with a message
    about archive positions, and so hides that the disk is full.
    """

    def __init__(self, layer: FileLayer, handle: IO[bytes]) -> None:
        self._layer, self._handle = layer, handle
        self._digest = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            self._layer.write(self._handle, view)
        except OSError as error:
            self.error = self.error or error
            raise
        self._digest.update(view)
        self.size += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Nothing: the file is flushed and synced once, at the end."""

    def written(self) -> Written:
        return Written(self.size, self._digest.hexdigest())


def atomic_write(
    path: Path,
    writer: Callable[[Any], None],
    *,
    layer: FileLayer | None = None,
    before_rename: Callable[[Written], None] | None = None,
) -> Written:
    """Write a file whole or not at all.

    Args:
        path: the final name; its folder has to exist.
        writer: is given an object with ``write(bytes)`` and ``flush()``.
        layer: the file operations to use.
        before_rename: called with size and digest when the content is on the disk and verified, before it
            gets its final name. If it raises, nothing is renamed.

    Raises:
        OutputError: the file cannot be written (full disk, no permission, ...); no part of it is left.
    """
    layer = layer or FileLayer()
    token = f"{_HOST}-{os.getpid()}-{_PROCESS}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{token}.tmp")
    try:
        written = _write_and_verify(temporary, writer, layer)
        if before_rename:
            before_rename(written)
        layer.replace(temporary, path)
        layer.sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            layer.remove(temporary)
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise OutputError(
                f"{path} cannot be written ({error.strerror or error}): free or choose another place (OUTPUT_DIR)"
            ) from error
        raise
    return written


def _write_and_verify(temporary: Path, writer: Callable[[Any], None], layer: FileLayer) -> Written:
    """Fill and sync the temporary file, and check that what is in it is what was written."""
    with layer.create(temporary) as handle:
        stream = _HashingWriter(layer, handle)
        try:
            writer(stream)
        except Exception as error:
            if stream.error is not None and stream.error is not error:
                raise stream.error from None
            raise
        layer.sync(handle)
    written = stream.written()
    if file_digest(temporary) != written.sha256:
        raise OSError(f"reading {temporary.name} back gives other bytes than were written: the disk may be failing")
    return written


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_file_name(name: object, source: str) -> str:
    """Return ``name`` if it is a plain file name, for names that come out of files.

    Raises:
        CheckpointError: it is no text, is empty, or leads out of the folder.
    """
    if (
        not isinstance(name, str)
        or not name
        or name in (".", "..")
        or len(name) > 255
        or not name.isprintable()
        or any(c in "/\\:" for c in name)
    ):
        raise CheckpointError(f"{source} names {name!r}, which is not a plain file name in the same folder: refused")
    return name


def clean_leftovers(folder: Path, layer: FileLayer | None = None) -> list[str]:
    """Delete the temporary files that killed processes left in a folder; returns their names.

    A file counts as left when its process on this machine is gone, or when it is a day old.
    """
    layer = layer or FileLayer()
    removed = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if (found := _TEMPORARY.match(path.name)) and _is_abandoned(path, *found.groups()):
            with contextlib.suppress(OSError):
                layer.remove(path)
                removed.append(path.name)
    return sorted(removed)


def _is_abandoned(path: Path, host: str, pid: str, process: str) -> bool:
    """Whether nobody is still writing a temporary file."""
    if process == _PROCESS and int(pid) == os.getpid():
        return False
    if host == _HOST and (int(pid) == os.getpid() or not _is_alive(int(pid))):
        return True  # the same number as ours with another token: the system gave a dead process' number again
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER
    except OSError:
        return False


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    if os.name == "nt":
        return True  # os.kill(pid, 0) would end the process there; age decides instead
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
