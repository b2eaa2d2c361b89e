"""A writer that works in a thread of its own."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Any

from drivetrain.events.storage import EventStorage

from .base import EventWriter, FailSafeWriter
from .fresh import FreshScalars

__all__ = ["BackgroundWriter"]

_logger = logging.getLogger("drivetrain.events")


class BackgroundWriter(FailSafeWriter):
    """Lets a writer that may block (a tracker on the network) work in a thread, so that training never waits for it.

    ::

        hooks.PeriodicWriter([JSONWriter("output/metrics.json"), BackgroundWriter(MyTracker())])

    The writer does not see the training's storage but a copy in its thread, which is given the new scalars before each
    call; :func:`~drivetrain.events.get_event_storage` returns it there. After a resume the copy begins with what is
    new. Up to ``queue_size`` calls wait, further ones push out the oldest. Whatever the writer raises is counted, and
    its next call is the next attempt.

    Args:
        writer: with ``write()`` and ``close()``; both are called in the thread only.
        queue_size: calls that may wait.
        pictures: whether it is given images and histograms too, which are then removed from the training's storage, so
            that no writer after this one sees them.
        close_timeout: seconds that :meth:`close` waits for the thread before it gives up.

    Attributes:
        failures: how many calls failed so far.
        dropped: how many calls were given up.
    """

    def __init__(
        self, writer: EventWriter, *, queue_size: int = 100, pictures: bool = False, close_timeout: float = 10.0
    ) -> None:
        super().__init__()
        self.dropped = 0
        self._writer = writer
        self._queue: deque[_News] = deque()
        self._queue_size = max(queue_size, 1)
        self._pictures = pictures
        self._close_timeout = close_timeout
        self._fresh = FreshScalars()
        self._storage: weakref.ref[EventStorage] | None = None
        self._number = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def write_events(self, storage: EventStorage) -> None:
        """Hand over what is new, and return."""
        news = self._news(storage)
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._closing = False
                self._thread = threading.Thread(target=self._run, name=type(self._writer).__name__, daemon=True)
                self._thread.start()
            if self._closing:  # closed while the writer was blocked, as it still is
                self._tell_dropped(1)
                return
            if len(self._queue) == self._queue_size:
                self._queue.popleft()
                self._tell_dropped(1)
            self._queue.append(news)
            self._changed.notify()

    def close(self) -> None:
        """Let the thread write what waits and close the writer, but wait no longer than ``close_timeout`` seconds."""
        if self._thread is None or not self._thread.is_alive() or self._closing:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(self._close_timeout)
        if self._thread.is_alive():
            with self._changed:
                lost = len(self._queue) + 1  # one is in the writer's hands
                self._queue.clear()
                self._tell_dropped(lost)

    def _tell_dropped(self, count: int) -> None:
        if self.dropped == 0:
            name = type(self._writer).__name__
            _logger.warning("%s does not keep up; what it should write is dropped, and only counted from now on", name)
        self.dropped += count

    def _news(self, storage: EventStorage) -> _News:
        if self._storage is None or self._storage() is not storage:
            self._storage = weakref.ref(storage)
            self._number += 1
        images: list[Any] = []
        histograms: list[Any] = []
        if self._pictures:
            images, histograms = storage._vis_data, storage._histograms
            storage.clear_images()
            storage.clear_histograms()
        hints = storage.smoothing_hints()
        scalars = [(name, hints.get(name, True), values) for name, values in self._fresh.by_name(storage).items()]
        return _News(self._number, storage.start_iter, storage.iter, scalars, images, histograms)

    def _run(self) -> None:
        """What the thread does: until closed, give the news to its storage and let the writer write."""
        storage, number = EventStorage(), 0
        while (news := self._next()) is not None:
            if news.number != number:
                storage, number = EventStorage(news.start_iter), news.number
            news.put_into(storage)
            with storage:
                self._attempt(self._writer.write)
        self._attempt(self._writer.close)

    def _next(self) -> _News | None:
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return self._queue.popleft() if self._queue else None

    def _attempt(self, call: Any) -> None:
        try:
            call()
        except BaseException as error:  # sys.exit() in a tracker must not end its thread without a word
            self.note_failure(error)

    def note_failure(self, error: BaseException) -> None:
        """Count a failure of the writer, and log it if it is the first."""
        self.failures += 1
        if self.failures == 1:
            name = type(self._writer).__name__
            _logger.warning("%s failed (%s: %s); training goes on", name, type(error).__name__, error)


@dataclass(frozen=True)
class _News:
    """What came to a storage since the last call: its number, its iterations, (name, hint, values) ..."""

    number: int
    start_iter: int
    iter: int
    scalars: list[tuple[str, bool, list[tuple[float, int]]]]
    images: list[Any]
    histograms: list[Any]

    def put_into(self, storage: EventStorage) -> None:
        storage.iter = self.iter
        for name, hint, values in self.scalars:
            for value, iteration in values:
                storage.put_scalar(name, value, smoothing_hint=hint, cur_iter=iteration)
        storage._vis_data += self.images
        storage._histograms += self.histograms
