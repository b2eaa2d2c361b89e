"""Disks that fill up or break, closed terminals and dead trackers: none of them ends a training or changes it."""

from __future__ import annotations

import builtins
import errno
import io
import json
import logging
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from drivetrain.engine.hook_base import HookBase
from drivetrain.engine.hooks import CallbackHook, PeriodicWriter
from drivetrain.events import EventWriter
from drivetrain.events.writers import (
    BackgroundWriter,
    CommonMetricPrinter,
    JSONWriter,
    ProgressBar,
    TensorboardXWriter,
)
from drivetrain.runtime.logging import setup_logger
from drivetrain.testing import assert_same_training, tiny_trainer

START, END = 2, 6
ALWAYS = 10**9


class Disk:
    """Makes some of the calls that change files below a folder fail, counted from 0; half of a failed write is done."""

    def __init__(self, folder: Path, first: int = ALWAYS, count: int = 0, code: int = errno.ENOSPC) -> None:
        self.folder, self.first, self.last, self.code = folder, first, first + count, code
        self.calls: list[str] = []

    def call(self, kind: str) -> None:
        self.calls.append(kind)
        if self.first <= len(self.calls) - 1 < self.last:
            raise OSError(self.code, os.strerror(self.code))

    def _mine(self, path: Any) -> bool:
        return isinstance(path, (str, Path)) and str(path).startswith(str(self.folder))

    @contextmanager
    def installed(self) -> Iterator[Disk]:
        """Within the block, the failures happen."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("replace", "rename", "chmod", "mkdir"):
                patch.setattr(os, name, self._guarded(name, getattr(os, name)))
            patch.setattr(builtins, "open", self._opening(open))
            patch.setattr(os, "fdopen", self._fdopen(os.fdopen))
            patch.setattr(os, "fsync", self._fsync(os.fsync))
            yield self

    def _guarded(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(path: Any, *args: Any, **kwargs: Any) -> Any:
            if self._mine(path):
                self.call(name)
            return real(path, *args, **kwargs)

        return guarded

    def _opening(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opening(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not self._mine(path) or mode in ("r", "rb"):
                return real(path, mode, *args, **kwargs)
            self.call("open")
            return _File(real(path, mode, *args, **kwargs), self)

        return opening

    def _fdopen(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda handle, *args, **kwargs: _File(real(handle, *args, **kwargs), self)

    def _fsync(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(handle: int) -> None:
            self.call("fsync")
            real(handle)

        return fsync


class _File:
    """A file on the disk."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        try:
            self._disk.call("write")
        except OSError:
            self._file.write(data[: len(data) // 2])
            raise
        return int(self._file.write(data))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._disk.call("flush")
        self._file.flush()

    def truncate(self, size: int) -> int:
        if self._disk.code == errno.EIO:  # a full disk lets us give back
            self._disk.call("truncate")
        return int(self._file.truncate(size))


def train(writer: EventWriter, start: int = START, *hooks: HookBase) -> None:
    trainer = tiny_trainer()
    evaluate = CallbackHook(after_step=lambda t: t.storage.put_scalar("bbox/AP", float(t.iter), smoothing_hint=False))
    trainer.register_hooks([evaluate, *hooks, PeriodicWriter([writer], period=1)])
    trainer.train(start, END)


class Json:
    """metrics.json of a run that was killed in the middle of a line, and is continued."""

    @staticmethod
    def prepare(folder: Path) -> None:
        lines = [json.dumps({"iteration": i, "bbox/AP": float(i), "total_loss": 1.0}) for i in range(START + 1)]
        (folder / "metrics.json").write_text("\n".join(lines) + '\n{"iteration": 3, "bb')

    @staticmethod
    def writer(folder: Path) -> Any:
        return JSONWriter(str(folder / "metrics.json"))

    @staticmethod
    def points(folder: Path, start: int) -> list[int]:
        """The iterations whose evaluation is there, in order; fails on a line that is not whole."""
        text = (folder / "metrics.json").read_text()
        assert text == "" or text.endswith("\n")
        lines = [json.loads(line) for line in text.splitlines()]
        return [line["iteration"] for line in lines if "bbox/AP" in line]


class Tensorboard:
    """An event file of a continued run."""

    @staticmethod
    def prepare(folder: Path) -> None:
        """Nothing is there."""

    @staticmethod
    def writer(folder: Path) -> Any:
        return TensorboardXWriter(folder / "tb")

    @staticmethod
    def points(folder: Path, start: int) -> list[int]:
        """The iterations whose evaluation is there, in order; fails on a record that is not whole."""
        from tensorboard.compat.proto.event_pb2 import Event

        steps = []
        for path in sorted((folder / "tb").glob("*")):
            data = path.read_bytes()
            assert data, "an empty file"
            first = True
            while data:
                (length,) = struct.unpack("<Q", data[:8])
                assert len(data) >= length + 16
                event = Event.FromString(data[12 : 12 + length])
                assert (event.file_version == "brain.Event:2") == first
                steps += [event.step for value in event.summary.value if value.tag == "bbox/AP"]
                data, first = data[16 + length :], False
        return [*range(start), *steps]


KINDS = {"json": Json, "tensorboard": Tensorboard}
CODES = {"full": errno.ENOSPC, "broken": errno.EIO}


def with_disk(kind: Any, folder: Path, start: int, disk: Disk) -> Any:
    """Train with a disk; the writer, closed."""
    if start > 0:
        kind.prepare(folder)
    writer = kind.writer(folder)
    with disk.installed():
        train(writer, start)
    writer.close()
    return writer


@pytest.mark.parametrize("start", [0, START])
@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_disk_that_fails_at_each_call_once_loses_nothing(
    tmp_path: Path, kind: Any, code: int, start: int, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good").mkdir()
    good = Disk(tmp_path / "good", code=code)
    with_disk(kind, tmp_path / "good", start, good)
    assert kind.points(tmp_path / "good", start) == list(range(END))
    assert len(good.calls) > END - start  # it writes in every iteration
    for index, call in enumerate(good.calls):
        folder = tmp_path / str(index)
        folder.mkdir()
        caplog.clear()
        writer = with_disk(kind, folder, start, Disk(folder, index, 1, code))
        last = index == len(good.calls) - 1
        assert kind.points(folder, start) == list(range(END)), f"after a failed {call}, call {index}"
        assert writer.failures == 1 or last, f"after a failed {call}, call {index}"
        assert _said(caplog) == writer.failures
        assert not [p for p in folder.rglob("*") if p.name.startswith(".")]


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_disk_that_fails_for_good_at_each_call_leaves_whole_pieces(
    tmp_path: Path, kind: Any, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good").mkdir()
    good = Disk(tmp_path / "good", code=errno.ENOSPC)
    with_disk(kind, tmp_path / "good", 0, good)
    for index in range(len(good.calls)):
        folder = tmp_path / str(index)
        folder.mkdir()
        caplog.clear()
        writer = kind.writer(folder)
        disk = Disk(folder, index, ALWAYS, code)
        with disk.installed():
            train(writer, 0)
            writer.close()
        assert writer.failures >= 1 or index == len(good.calls) - 1
        assert _said(caplog) <= 1
        if code == errno.ENOSPC and (folder / "metrics.json").exists() | (folder / "tb").exists():
            points = kind.points(folder, 0)
            assert points == list(range(len(points)))


def _said(caplog: pytest.LogCaptureFixture) -> int:
    return sum("failed (OSError" in record.getMessage() for record in caplog.records)


class _Closed(io.StringIO):
    """A terminal that is gone after some writes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.room <= 0:
            raise OSError(errno.EPIPE, "Broken pipe")
        self.room -= 1
        return super().write(text)


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_console_that_is_gone_ends_nothing(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", _Closed(room))
    setup_logger()
    assert_same_training(tiny_trainer, lambda: _watched(CommonMetricPrinter(END)), max_iter=END)


def test_a_closed_console_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    setup_logger()
    monkeypatch.setattr(sys, "stdout", closed)
    assert_same_training(tiny_trainer, lambda: _watched(CommonMetricPrinter(END)), max_iter=END)


@pytest.mark.parametrize("room", range(8))
def test_a_progress_display_whose_terminal_goes_ends_nothing(room: int, caplog: pytest.LogCaptureFixture) -> None:
    from rich.console import Console

    outer = sys.stdout, sys.stderr
    screen = _Closed(room)
    writer = ProgressBar(END, interval=0.0, console=Console(file=screen, force_terminal=True, width=80))
    assert_same_training(tiny_trainer, lambda: _watched(writer), max_iter=END)
    assert writer.failures == 1
    assert (sys.stdout, sys.stderr) == outer
    assert sum("ProgressBar failed" in record.getMessage() for record in caplog.records) == 1


class _Dead(EventWriter):
    """A tracker whose server is down all the time."""

    def __init__(self) -> None:
        self.calls = 0

    def write(self) -> None:
        self.calls += 1
        raise ConnectionError("no route to host")

    def close(self) -> None:
        self.calls += 1
        raise ConnectionError("still no route to host")


def _watched(*writers: EventWriter) -> Any:
    trainer = tiny_trainer()
    trainer.register_hooks([PeriodicWriter(writers, period=1)])
    return trainer


@pytest.mark.parametrize("wrap", [lambda w: w, BackgroundWriter], ids=["inline", "background"])
def test_a_tracker_that_is_dead_all_the_time_changes_nothing(
    wrap: Callable[[EventWriter], EventWriter], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = _Dead()
    metrics = JSONWriter(str(tmp_path / "metrics.json"))
    assert_same_training(tiny_trainer, lambda: _watched(wrap(dead), metrics), max_iter=END)
    assert dead.calls == END + 2
    written = [json.loads(line) for line in (tmp_path / "metrics.json").open()]
    assert [line["iteration"] for line in written if "total_loss" in line] == list(range(END))  # the other one writes
    assert sum("no route to host" in (r.getMessage() + (r.exc_text or "")) for r in caplog.records) == 1


def test_a_tracker_that_blocks_for_good_stops_nobody() -> None:
    import threading

    forever = threading.Event()

    class Blocked(EventWriter):
        def write(self) -> None:
            forever.wait(300)

    made: list[BackgroundWriter] = []

    def watched() -> Any:
        made.append(BackgroundWriter(Blocked(), queue_size=2, close_timeout=0.01))
        return _watched(made[0])

    try:
        assert_same_training(tiny_trainer, watched, max_iter=END)
        assert made[0].dropped == END + 1
    finally:
        forever.set()


def test_a_failing_writer_does_not_hide_why_the_training_ended(caplog: pytest.LogCaptureFixture) -> None:
    def fail(trainer: Any) -> None:
        if trainer.iter == 3:
            raise ZeroDivisionError("the real one")

    dead = _Dead()
    with caplog.at_level(logging.ERROR), pytest.raises(ZeroDivisionError, match="the real one"):
        train(dead, 0, CallbackHook(before_step=fail))
    assert dead.calls == 5
    assert "the real one" in caplog.text
