"""When hooks act: the last finished iteration, and the base of those that act once in a period."""

from __future__ import annotations

import sys
from typing import Any

from drivetrain.engine.hook_base import HookBase
from drivetrain.errors import TrainingError

__all__ = ["PeriodicHook", "finished", "last_iteration"]


def finished(trainer: Any) -> bool:
    """Whether a training that is in ``after_train`` ended as it should, rather than by an exception."""
    if trainer.iter >= trainer.max_iter:
        return True
    # A trainer's own copy of the loop, `for self.iter in range(...)`, leaves `iter` at the last iteration.
    return last_iteration(trainer) + 1 >= trainer.max_iter and sys.exc_info()[0] is None


def last_iteration(trainer: Any) -> int:
    """The last finished iteration, from 0; -1 before the first. In ``after_step`` it is the current one."""
    return int(trainer._finished_iteration())


class PeriodicHook(HookBase):
    """Calls :meth:`act` every ``period`` iterations and after the last one; never after a training that failed.

    A training that another hook ends early has a last iteration that nobody knew to be it; then the call comes in
    ``after_train``.

    Args:
        period: iterations between two calls; 0 for the end alone.
    """

    def __init__(self, period: int) -> None:
        if period < 0:
            raise TrainingError(
                f"the period of {type(self).__name__} is {period}: give a number of iterations, or 0 for the end alone"
            )
        self._period = period
        self._acted: bool | None = None  # whether it did after the newest iteration; None before the first

    def act(self, iteration: int) -> None:
        """What the hook does, after ``iteration`` (from 0)."""
        raise NotImplementedError(f"{type(self).__name__} does not define act()")

    def before_train(self) -> None:
        """Forget an earlier training."""
        self._acted = None

    def after_step(self) -> None:
        """Act when the period is over or this is the last iteration."""
        done = self.trainer.iter + 1
        self._acted = done >= self.trainer.max_iter or (self._period > 0 and done % self._period == 0)
        if self._acted:
            self.act(self.trainer.iter)

    def after_train(self) -> None:
        """Act if training finished and the last iteration was not known to be it."""
        if self._acted is False and finished(self.trainer):
            self._acted = True
            self.act(last_iteration(self.trainer))
