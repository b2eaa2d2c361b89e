"""A writer in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import torch

from drivetrain.events import EventStorage, EventWriter, get_event_storage
from drivetrain.events.writers import BackgroundWriter


class Tracker(EventWriter):
    """Notes what it sees, once it may."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.may_write = threading.Event()
        self.writing = threading.Event()
        self.error = error
        self.seen: list[Any] = []
        self.threads: set[int] = set()
        self.closed = 0

    def write(self) -> None:
        self.writing.set()
        assert self.may_write.wait(60)
        self.threads.add(threading.get_ident())
        storage = get_event_storage()
        latest = storage.latest_with_smoothing_hint(20)
        self.seen.append((storage.start_iter, storage.iter, {k: v for k, (v, _) in latest.items()}))
        self.seen += [(name, i) for name, _, i in storage._vis_data]
        storage.clear_images()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


def run(writer: BackgroundWriter, start: int, end: int) -> None:
    with EventStorage(start) as storage:
        for storage.iter in range(start, end):
            storage.put_scalar("loss", float(storage.iter))
            storage.put_scalar("bbox/AP", 10.0 * storage.iter, smoothing_hint=False)
            storage.put_image("sample", torch.zeros(3, 2, 2))
            writer.write()


def test_it_sees_what_it_would_have_seen_at_once() -> None:
    tracker = Tracker()
    tracker.may_write.set()
    writer = BackgroundWriter(tracker)
    run(writer, 0, 3)
    run(writer, 10, 12)
    writer.close()
    writer.close()
    assert tracker.seen == [
        (0, 0, {"loss": 0.0, "bbox/AP": 0.0}),
        (0, 1, {"loss": 0.5, "bbox/AP": 10.0}),
        (0, 2, {"loss": 1.0, "bbox/AP": 20.0}),
        (10, 10, {"loss": 10.0, "bbox/AP": 100.0}),
        (10, 11, {"loss": 10.5, "bbox/AP": 110.0}),
    ]
    assert (writer.failures, writer.dropped, tracker.closed) == (0, 0, 1)
    assert len(tracker.threads) == 1 and threading.get_ident() not in tracker.threads


def test_pictures_are_taken_only_if_asked_for() -> None:
    tracker = Tracker()
    tracker.may_write.set()
    writer = BackgroundWriter(tracker, pictures=True)
    with EventStorage() as storage:
        storage.put_image("sample", torch.zeros(3, 2, 2))
        writer.write()
        assert storage._vis_data == []
        storage.put_image("kept", torch.zeros(3, 2, 2))
        BackgroundWriter(tracker).write()
        assert [name for name, _, _ in storage._vis_data] == ["kept"]
    writer.close()
    assert ("sample", 0) in tracker.seen and ("kept", 0) not in tracker.seen


def test_a_blocked_writer_blocks_nobody_and_what_it_misses_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker()
    writer = BackgroundWriter(tracker, queue_size=2, close_timeout=0.01)
    with caplog.at_level(logging.WARNING):
        with EventStorage() as storage:
            writer.write()
            assert tracker.writing.wait(60)  # the first one is in its hands
            for storage.iter in range(1, 6):
                writer.write()
            assert writer.dropped == 3
            writer.close()
            assert writer.dropped == 6
            writer.write()  # nobody is there to write it
            assert writer.dropped == 7
        assert tracker.seen == []
        thread = writer._thread
        tracker.may_write.set()
        assert thread is not None
        thread.join(60)
    assert tracker.closed == 1
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "Tracker does not keep up" in caplog.text


@pytest.mark.parametrize("error", [OSError("down"), asyncio.CancelledError(), SystemExit(1), KeyboardInterrupt()])
def test_whatever_it_raises_is_counted_and_told_once(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(error)
    tracker.may_write.set()
    writer = BackgroundWriter(tracker)
    with caplog.at_level(logging.WARNING):
        run(writer, 0, 4)
        writer.close()
    assert writer.failures == 4
    assert len(tracker.seen) == 4 and tracker.closed == 1
    assert len(caplog.records) == 1
    assert f"Tracker failed ({type(error).__name__}" in caplog.text
