"""The console line of each write period."""

from __future__ import annotations

import datetime
import logging
import math
import time

from drivetrain.events.history import ScalarHistory
from drivetrain.events.storage import EventStorage

from .base import FailSafeWriter
from .fresh import FreshScalars, is_evaluation

__all__ = ["CommonMetricPrinter", "peak_gpu_memory"]

_SHOWN_ELSEWHERE = ("lr", "eta_seconds", "time", "data_time", "rank_data_time")
_ETA_WINDOW = 1000  # iterations; long, so that the eta does not jump with every slow batch
_ETA_RENEWAL = 10  # the median over the window is found anew when one part in so many of it is new


class CommonMetricPrinter(FailSafeWriter):
    """Logs one line per write: how far the training is, its losses, metrics, times, learning rate and memory.

    ::

        eta: 0:01:10  iter: 19  total_loss: 2.3  loss_cls: 1.8  loss_box_reg: 0.5  time: 0.3012
        last_time: 0.2987  data_time: 0.0021  last_data_time: 0.0019  lr: 0.0001  max_mem: 812M

    (on one line). Losses are every scalar with ``loss`` in its name, smoothed by a median over the window.
    After them come scalars with ``[metric]`` in their name and unsmoothed ones that have no other place, and,
    in brackets, evaluation results (``[bbox/AP: 55.21  bbox/AP50: 88.07]``) in the first line after they were
    put, without those of single classes. The line goes to the logger ``drivetrain.events`` at level INFO. As
    a side effect the estimate is put into the storage as ``eta_seconds``.

    Args:
        max_iter: the iteration at which training ends; without it no eta is shown.
        window_size: smoothing window in iterations.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        super().__init__()
        self.logger = logging.getLogger("drivetrain.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._fresh = FreshScalars(window_size)
        self._last_write: tuple[int, float] | None = None
        self._pace: tuple[int, float] = (0, 0.0)  # median of `time`, and the number of values when it was found

    def write_events(self, storage: EventStorage) -> None:
        """Log the line; after the last iteration only when evaluation results came since."""
        evaluation = self._evaluation(storage)
        if self._max_iter is not None and storage.iter >= self._max_iter:
            if evaluation:
                self.logger.info(f"eta: 0:00:00  iter: {storage.iter}  {evaluation}")
            return
        parts = [
            self._eta(storage),
            f"iter: {storage.iter}",
            *self._scalars(storage),
            evaluation,
            *self._times(storage),
            _memory_part(),
        ]
        self.logger.info("  ".join(part for part in parts if part))

    def _scalars(self, storage: EventStorage) -> list[str]:
        """Losses, then metrics and others that have no place of their own."""
        losses: list[str] = []
        metrics: list[str] = []
        for name, history in storage.histories().items():
            smooth = storage.smoothing_hints()[name]
            if "loss" in name:
                shown = losses
            elif "[metric]" in name or not (smooth or "/" in name or name in _SHOWN_ELSEWHERE):
                shown = metrics
            else:
                continue
            shown.append(f"{name}: {history.smoothed(self._window_size) if smooth else history.latest():.4g}")
        return losses + metrics

    def _evaluation(self, storage: EventStorage) -> str:
        """Evaluation results put since the last line, in brackets; none of single classes (``AP-cat``)."""
        shown = [name for name in storage.histories() if _is_shown_as_result(storage, name)]
        fresh = self._fresh.by_name(storage, shown)
        return f"[{'  '.join(f'{name}: {values[-1][0]:.4g}' for name, values in fresh.items())}]" if fresh else ""

    def _times(self, storage: EventStorage) -> list[str]:
        histories = storage.histories()
        parts = []
        for name in ("time", "data_time"):
            if (history := histories.get(name)) is not None:
                average = history.avg(storage.count_samples(name, self._window_size))
                parts.append(f"{name}: {average:.4f}  last_{name}: {history.latest():.4f}")
        if "lr" in histories:
            parts.append(f"lr: {histories['lr'].latest():.6g}")
        return parts

    def _eta(self, storage: EventStorage) -> str:
        """``eta: H:MM:SS``, from the scalar ``time`` or else from the clock; ``""`` while unknown."""
        if self._max_iter is None:
            return ""
        left = self._max_iter - storage.iter - 1
        history = storage.histories().get("time")
        now = time.perf_counter()
        seconds: float | None = None
        if left <= 0:
            seconds = 0.0
        elif history is not None and len(history):
            seconds = self._median_time(history) * left
        elif self._last_write is not None and storage.iter > self._last_write[0]:
            since = storage.iter - self._last_write[0]
            seconds = (now - self._last_write[1]) / since * left
        self._last_write = (storage.iter, now)
        if seconds is None or not math.isfinite(seconds):
            return ""
        storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        return f"eta: {datetime.timedelta(seconds=int(seconds))}"

    def _median_time(self, history: ScalarHistory) -> float:
        """The median over a long window, found anew now and then: sorting it costs more than the rest of the line."""
        count, seconds = self._pace
        if not 0 <= history.count - count < min(count, _ETA_WINDOW) / _ETA_RENEWAL:
            count, seconds = self._pace = (history.count, history.median(_ETA_WINDOW))
        return seconds


def _is_shown_as_result(storage: EventStorage, name: str) -> bool:
    elsewhere = "loss" in name or "[metric]" in name or "-" in name.rsplit("/", 1)[-1]
    return is_evaluation(storage, name) and not elsewhere


def peak_gpu_memory() -> int:
    """Peak of what this process allocated on its CUDA device, in bytes; 0 when it uses none."""
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]


def _memory_part() -> str:
    peak = peak_gpu_memory()
    return f"max_mem: {peak / 2**20:.0f}M" if peak else ""
