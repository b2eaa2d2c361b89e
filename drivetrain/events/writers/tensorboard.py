"""TensorBoard event files."""

from __future__ import annotations

import os
from typing import Any

from drivetrain.events.storage import EventStorage

from .base import FailSafeWriter
from .fresh import FreshScalars

__all__ = ["TensorboardXWriter"]


class TensorboardXWriter(FailSafeWriter):
    """Writes scalars, images and histograms to a TensorBoard event file.

    The file is made at the first write, since importing tensorboard takes seconds. After a resume, points
    from the storage's start iteration on that the killed run left are hidden (TensorBoard's ``purge_step``).
    Images and histograms are removed from the storage once they are written.

    Args:
        log_dir: the folder of the event files.
        window_size: smoothed scalars are medians over this many iterations.
        **kwargs: for ``torch.utils.tensorboard.SummaryWriter``, such as ``flush_secs``.

    Attributes:
        failures: how many writes failed so far.
    """

    def __init__(self, log_dir: str | os.PathLike[str], window_size: int = 20, **kwargs: Any) -> None:
        super().__init__()
        self._log_dir = os.fspath(log_dir)
        self._kwargs = kwargs
        self._fresh = FreshScalars(window_size)
        self._summary: Any = None

    def write_events(self, storage: EventStorage) -> None:
        """Write what is new; raises what tensorboard raises, after which the next call starts a new file."""
        scalars = self._fresh.read(storage)
        # Taken first: if they cannot be written, they must not pile up in memory.
        images, histograms = storage._vis_data, storage._histograms
        storage.clear_images()
        storage.clear_histograms()
        try:
            summary = self._open(storage)
            for iteration, values in scalars:
                for name, value in values.items():
                    summary.add_scalar(name, value, iteration)
            for name, image, iteration in images:
                summary.add_image(name, image, iteration)
            for histogram in histograms:
                summary.add_histogram_raw(**histogram)
        except Exception:
            self._summary = None
            raise

    def close(self) -> None:
        """Flush and close the event file."""
        summary, self._summary = self._summary, None
        if summary is None:
            return
        try:
            summary.close()
        except Exception as error:
            self.note_failure(error)

    def _open(self, storage: EventStorage) -> Any:
        if self._summary is None:
            from torch.utils.tensorboard import SummaryWriter

            purge = {"purge_step": storage.start_iter} if storage.start_iter > 0 else {}
            self._summary = SummaryWriter(self._log_dir, **{**purge, **self._kwargs})
        return self._summary
