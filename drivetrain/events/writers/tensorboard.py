"""TensorBoard event files."""

from __future__ import annotations

import logging
import os
import re
import socket
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivetrain.errors import OutputError
from drivetrain.events.storage import EventStorage

from .append_file import AppendFile
from .base import FailSafeWriter
from .event_records import event_record, first_record, scalars_summary, start_record
from .fresh import FreshScalars

__all__ = ["TensorboardXWriter"]

_logger = logging.getLogger("drivetrain.events")
_MOST_WAITING = 32 << 20  # bytes kept while the file cannot be written
_EVENT_FILE = re.compile(r"events\.out\.tfevents\.(\d{10})\.")


class TensorboardXWriter(FailSafeWriter):
    """Writes scalars, images and histograms to a TensorBoard event file.

    The file is made at the first write; tensorboard is imported for images and histograms alone. After a resume, points
    from the storage's start iteration on that the killed run left are hidden (TensorBoard's ``purge_step``).
    Images and histograms are removed from the storage once they are taken.

    A full disk ends nothing: the file keeps whole records only, up to 32 MiB of them wait for the next write, further
    ones push out the oldest. (The library's own ``SummaryWriter`` writes in a thread that dies at the first error,
    with what it was given before.)

    Args:
        log_dir: the folder of the event files.
        window_size: smoothed scalars are medians over this many iterations.
        filename_suffix: the end of the file's name.
        purge_step: hide earlier points from this iteration on; the default is the start iteration of a resumed
            training.
        **unused: further arguments of ``torch.utils.tensorboard.SummaryWriter`` (``flush_secs``, ``max_queue``,
            ``comment``), accepted so that code written for detectron2 runs. A write is in the file when it returns.

    Attributes:
        failures: how many writes, or images and histograms that cannot be shown, failed so far.
        dropped: how many records were lost because too many waited.

    Raises:
        OutputError: ``log_dir`` is an address.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        window_size: int = 20,
        *,
        filename_suffix: str = "",
        purge_step: int | None = None,
        **unused: Any,
    ) -> None:
        super().__init__()
        if "://" in os.fspath(log_dir):
            raise OutputError(f"{log_dir} is an address: TensorBoard's files are written to a local folder, name one")
        self.dropped = 0
        self._folder = Path(log_dir)
        self._suffix = filename_suffix
        self._purge_step = purge_step
        self._fresh = FreshScalars(window_size)
        self._waiting: deque[bytes] = deque()
        self._storage: weakref.ref[EventStorage] | None = None
        self._file: AppendFile | None = None

    def write_events(self, storage: EventStorage) -> None:
        """Append what is new; OSError when the file cannot be written, then it waits for the next call."""
        # Taken first: if they cannot be written, they must not pile up in memory.
        images, histograms = storage._vis_data, storage._histograms
        storage.clear_images()
        storage.clear_histograms()
        self._hide_points_of_a_killed_run(storage)
        for iteration, values in self._fresh.read(storage):
            self._waiting.append(event_record(iteration, scalars_summary(values)))
        if images or histograms:
            self._add_pictures(images, histograms)
        self._append_waiting()

    def _add_pictures(self, images: list[Any], histograms: list[Any]) -> None:
        from torch.utils.tensorboard import summary

        for name, image, iteration in images:
            self._add(iteration, summary.image, name, image, dataformats="CHW")
        for histogram in histograms:
            tag, iteration = histogram.pop("tag"), histogram.pop("global_step")
            self._add(iteration, summary.histogram_raw, tag, **histogram)

    def _add(self, iteration: int, make: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Keep a record of one summary; one that cannot be made (an image of a wrong shape) is counted and left out."""
        try:
            record = event_record(iteration, make(*args, **kwargs).SerializeToString())
        except Exception as error:
            self.note_failure(error)
        else:
            self._waiting.append(record)

    def close(self) -> None:
        """Write what waits, if it can be, and close the file."""
        if self._file is None:
            return
        try:
            self._append_waiting()
        except OSError as error:
            self.note_failure(error)
        finally:
            file, self._file = self._file, None
            file.close()
        if lost := self.dropped + len(self._waiting):
            _logger.warning("%d records for TensorBoard could not be written to %s", lost, self._folder)

    def _hide_points_of_a_killed_run(self, storage: EventStorage) -> None:
        if self._storage is not None and self._storage() is storage:
            return
        self._storage = weakref.ref(storage)
        step = storage.start_iter if self._purge_step is None else self._purge_step
        if step > 0:
            self._waiting.append(start_record(step))

    def _append_waiting(self) -> None:
        """Append the waiting records whole, or leave the file as it was and them waiting, as many as may."""
        if not self._waiting:
            return
        try:
            if self._file is None:
                self._start_file()
            if self._file is not None:
                self._file.append(b"".join(self._waiting))
            self._waiting.clear()
        finally:
            size = sum(map(len, self._waiting))
            while size > _MOST_WAITING:
                size -= len(self._waiting.popleft())
                self.dropped += 1

    def _start_file(self) -> None:
        """Make a file with its first record; TensorBoard reads it last, since its time is the latest in the names."""
        self._folder.mkdir(parents=True, exist_ok=True)
        earlier = [int(found[1]) for path in self._folder.iterdir() if (found := _EVENT_FILE.match(path.name))]
        started = max([int(time.time()), *(second + 1 for second in earlier)])  # also after a clock was put back
        name = f"events.out.tfevents.{started:010d}.{socket.gethostname()}.{os.getpid()}.0{self._suffix}"
        file = AppendFile(self._folder / name)
        try:
            file.append(first_record())
        except BaseException:
            file.close()
            raise
        self._file = file
