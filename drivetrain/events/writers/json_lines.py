"""metrics.json: one JSON object a line."""

from __future__ import annotations

import json
import math
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivetrain.errors import OutputError
from drivetrain.events.storage import EventStorage

from .append_file import AppendFile
from .base import FailSafeWriter
from .fresh import FreshScalars, is_evaluation

__all__ = ["JSONWriter"]

_MAX_QUEUE = 10_000  # lines kept while the file cannot be written
_ENCODER = json.JSONEncoder(sort_keys=True)
_Line = tuple[int, dict[str, float]]  # the scalars of one iteration


class JSONWriter(FailSafeWriter):
    """Appends scalars to a file, one object a line: ``iteration`` and the scalars of that iteration.

    Smoothed scalars are medians over the last ``window_size`` iterations; every scalar is written once;
    evaluation results stand at the iteration they belong to (so a write may add several lines). Values that
    are not finite are written as ``null``: ``json.loads`` reads that everywhere, while the ``NaN`` that
    Python would write is not JSON and makes the line unreadable to jq, JavaScript and databases. pandas turns
    ``null`` back into NaN.

    The file is opened at the first write. What an interrupted run left there is made to fit first, in one
    atomic replacement: a half-written line goes, and so does every line from the storage's start iteration
    on, which the resumed run writes anew. (The evaluation that a finished run wrote at the very end stays.)
    A run that starts at iteration 0 sets an earlier file aside as ``metrics.json.1``, ``.2`` and so on.

    A full disk ends nothing: the file keeps whole lines only, up to 10,000 lines wait for the next write,
    further ones push out the oldest.

    Args:
        json_file: the file; its folder is made when missing.
        window_size: smoothing window in iterations.

    Attributes:
        failures: how many writes failed so far.
        dropped: how many lines were lost because too many waited.

    Raises:
        OutputError: ``json_file`` is a folder, or its folder cannot be made.
    """

    def __init__(self, json_file: str | os.PathLike[str], window_size: int = 20) -> None:
        super().__init__()
        self.dropped = 0
        self._path = Path(json_file)
        self._fresh = FreshScalars(window_size)
        self._waiting: deque[_Line] = deque(maxlen=_MAX_QUEUE)
        self._file: AppendFile | None = None
        self._written: dict[str, int] = {}  # what stands in the file: the newest iteration of each scalar
        self._storage: weakref.ref[EventStorage] | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"the folder of {self._path} cannot be made ({error}): choose another output folder"
            ) from error
        if self._path.is_dir():
            raise OutputError(f"{self._path} is a folder, but metrics are written to a file: name another one")

    def write_events(self, storage: EventStorage) -> None:
        """Append what is new; OSError when the file cannot be written, then it waits for the next call."""
        for iteration, scalars in self._fresh.read(storage):
            self.dropped += len(self._waiting) == _MAX_QUEUE
            self._waiting.append((iteration, scalars))
        if self._file is None:
            self._open(storage)
        self._append_waiting()

    def close(self) -> None:
        """Write what waits, if it can be, and close the file."""
        if self._file is None:
            return
        try:
            self._append_waiting()
        except OSError as error:
            self.note_failure(error)
        finally:
            self._file.close()
            self._file = None

    def _open(self, storage: EventStorage) -> None:
        """Open the file for appending, made to fit ``storage`` unless it was opened for that one before."""
        if self._storage is None or self._storage() is not storage:
            self._written = _make_fit(self._path, storage.start_iter)
            self._waiting.extendleft(_restored_evaluations(storage))
            self._storage = weakref.ref(storage)
        self._file = AppendFile(self._path, new=False)

    def _append_waiting(self) -> None:
        """Append the waiting lines whole, or leave the file as it was and them waiting."""
        written = dict(self._written)
        data = b"".join([_encode(iteration, scalars, written) for iteration, scalars in self._waiting])
        if data and self._file is not None:
            self._file.append(data)
        self._written = written
        self._waiting.clear()


def _encode(iteration: int, scalars: Mapping[str, float], written: dict[str, int]) -> bytes:
    """A line, without scalars that are ``written`` up to its iteration; empty when none is left."""
    left: dict[str, Any] = {
        name: value if math.isfinite(value) else None
        for name, value in scalars.items()
        if written.get(name, -1) < iteration
    }
    if not left:
        return b""
    written.update(dict.fromkeys(left, iteration))
    return _ENCODER.encode({**left, "iteration": iteration}).encode() + b"\n"


def _restored_evaluations(storage: EventStorage) -> list[_Line]:
    """Evaluation results that came with a checkpoint, newest first; maybe nobody wrote them yet."""
    lines: dict[int, dict[str, float]] = {}
    for name, history in storage.histories().items():
        if is_evaluation(storage, name):
            for value, iteration in history.values():
                if iteration < storage.start_iter:
                    lines.setdefault(iteration, {})[name] = value
    return sorted(lines.items(), reverse=True)


def _make_fit(path: Path, start_iter: int) -> dict[str, int]:
    """Bring the file of an earlier run into the state that a run starting at ``start_iter`` continues.

    Returns:
        The newest iteration of each scalar in it.
    """
    written: dict[str, int] = {}
    if not path.exists():
        return written
    if start_iter == 0 and path.is_file() and path.stat().st_size > 0:
        _set_aside(path)
        return written
    whole = True
    kept: list[bytes] = []
    with open(path, "rb") as file:
        for line in file:
            content = _parse(line)
            if content is None or not _stays(content, start_iter):
                whole = False
                continue
            whole &= line.endswith(b"\n")
            kept.append(line.rstrip(b"\r\n") + b"\n")
            iteration = content.pop("iteration")
            written.update({name: max(iteration, written.get(name, -1)) for name in content})
    if not whole:
        _replace(path, kept)
    return written


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object of a line, None when it is damaged."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(content, dict) and isinstance(content.get("iteration"), int)
    return content if good else None


def _stays(content: dict[str, Any], start_iter: int) -> bool:
    """Whether a line is from before ``start_iter``, or the evaluation that ended a run finished there."""
    iteration = content["iteration"]
    if iteration == start_iter:
        return all("/" in name for name in content if name != "iteration")
    return bool(iteration < start_iter)


def _set_aside(path: Path) -> None:
    """Rename the file to the first free of ``path.1``, ``path.2`` ..."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    path.rename(aside)


def _replace(path: Path, lines: list[bytes]) -> None:
    """Replace the file's content atomically."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
