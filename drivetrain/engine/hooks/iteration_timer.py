"""How long iterations take."""

from __future__ import annotations

import logging
from datetime import timedelta
from time import perf_counter

from drivetrain.engine.hook_base import HookBase

__all__ = ["IterationTimer"]

logger = logging.getLogger(__name__)


class IterationTimer(HookBase):
    """Puts the seconds of each step as ``time`` and logs a summary at the end.

    A step is timed from this hook's ``before_step`` to its ``after_step``: put it first, so that the time of other
    hooks is not in it.

    Args:
        warmup_iter: timing begins with this iteration, counted from 1; the ones before are not representative.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._reset()

    def _reset(self) -> None:
        self._steps = 0  # finished ones, all
        self._timed = 0
        self._seconds = 0.0  # of the timed ones
        self._step_start = self._start = perf_counter()

    def before_train(self) -> None:
        """Start the clock."""
        self._reset()

    def before_step(self) -> None:
        """Note when the step begins."""
        self._step_start = perf_counter()

    def after_step(self) -> None:
        """Put the step's time."""
        now = perf_counter()
        self._steps += 1
        if self._steps < self._warmup_iter:
            self._start = now
            return
        seconds = now - self._step_start
        self._timed += 1
        self._seconds += seconds
        self.trainer.storage.put_scalar("time", seconds)

    def after_train(self) -> None:
        """Log speed and total time. Scripts parse these two lines: their form must not change."""
        total = perf_counter() - self._start
        if self._timed:
            logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)",
                self._timed,
                _clock(self._seconds),
                self._seconds / self._timed,
            )
        logger.info("Total training time: %s (%s on hooks)", _clock(total), _clock(max(total - self._seconds, 0.0)))


def _clock(seconds: float) -> str:
    """``H:MM:SS``."""
    return str(timedelta(seconds=int(seconds)))
