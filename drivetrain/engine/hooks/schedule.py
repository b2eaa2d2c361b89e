"""When hooks act: the last finished iteration, and the base of those that act once in a period."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from drivetrain.engine.hook_base import HookBase
from drivetrain.errors import TrainingError

__all__ = ["PeriodicHook", "finished", "last_iteration"]

logger = logging.getLogger(__name__)


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

    A resumed training first makes up for the call at its checkpoint's iteration if that checkpoint was written before
    the call was through (a signal cut it short, or the process was killed): what follows is as if there had been no
    interruption.

    Args:
        period: iterations between two calls; 0 for the end alone.
    """

    _key = "acted"  # of the state

    def __init__(self, period: int) -> None:
        if period < 0:
            raise TrainingError(
                f"the period of {type(self).__name__} is {period}: give a number of iterations, or 0 for the end alone"
            )
        self._period = period
        self._done: int | None = None  # the iteration after which the newest call was made, and was not cut short
        self._restored = False

    def act(self, iteration: int) -> None:
        """What the hook does, after ``iteration`` (from 0).

        A subclass that publishes its result sets ``_done`` before: hooks save checkpoints when they hear of it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define act()")

    def before_train(self) -> None:
        """Make up for a call that the checkpoint does not know of; without a checkpoint, forget an earlier training."""
        last = self.trainer.start_iter - 1
        if not self._restored:
            self._done = None
        elif 0 <= last != self._done:
            self._make_up(last)
        self._restored = False

    def after_step(self) -> None:
        """Act when the period is over or this is the last iteration."""
        if self._is_due(self.trainer.iter):
            self._act(self.trainer.iter)

    def after_train(self) -> None:
        """Act if training finished and the last iteration was not known to be it."""
        last = last_iteration(self.trainer)
        if last >= self.trainer.start_iter and last != self._done and finished(self.trainer):
            self._act(last)

    def _make_up(self, iteration: int) -> None:
        """Make the call that the checkpoint of an iteration does not know of, if there was to be one."""
        if self._is_due(iteration):
            message = "%s makes up for iteration %d: the checkpoint was written before it was through"
            logger.info(message, type(self).__name__, iteration)
            self._as_after(iteration, lambda: self._act(iteration))

    def _as_after(self, iteration: int, call: Callable[[], None]) -> None:
        """Call while the trainer is where it was after an iteration: a hook that ends the training ends it there."""
        trainer = self.trainer
        start = trainer.iter
        trainer.iter = trainer.storage.iter = iteration
        call()
        trainer.iter = trainer.storage.iter = start

    def _act(self, iteration: int) -> None:
        self.act(iteration)
        self._done = iteration

    def _is_due(self, iteration: int) -> bool:
        """Whether the call is to be made in ``after_step`` of an iteration."""
        return iteration >= 0 and (iteration + 1 >= self.trainer.max_iter or self._ends_period(iteration))

    def _ends_period(self, iteration: int) -> bool:
        return iteration >= 0 and self._period > 0 and (iteration + 1) % self._period == 0

    def state_dict(self) -> dict[str, Any]:
        """The iteration after which the newest call was made."""
        return {self._key: self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self._done = state[self._key]
        self._restored = True
