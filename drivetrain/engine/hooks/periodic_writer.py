"""Giving the storage's events to writers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from drivetrain.engine.hook_base import HookBase
from drivetrain.errors import TrainingError

__all__ = ["PeriodicWriter"]

logger = logging.getLogger(__name__)


class PeriodicWriter(HookBase):
    """Lets writers write every ``period`` iterations and at the end, then closes them.

    A writer that raises ends nothing and keeps no other writer from writing: its first error is logged with its
    traceback, the number of the others at the end.

    Args:
        writers: objects with ``write()`` and ``close()``, such as :class:`~drivetrain.events.EventWriter`.
        period: iterations between two writes.

    Raises:
        TrainingError: one of them is no writer, or the period is less than 1.
    """

    def __init__(self, writers: Sequence[Any], period: int = 20) -> None:
        for writer in writers:
            if not (callable(getattr(writer, "write", None)) and callable(getattr(writer, "close", None))):
                raise TrainingError(f"{writer!r} is no writer: it needs write() and close(), as EventWriter has them")
        if period < 1:
            raise TrainingError(f"the period of PeriodicWriter is {period}: it has to be at least 1 iteration")
        self._writers = writers
        self._period = period
        self._failures: dict[str, int] = {}

    def after_step(self) -> None:
        """Write when the period is over or this is the last iteration."""
        trainer = self.trainer
        done = trainer.iter + 1
        if done % self._period == 0 or done >= trainer.max_iter:
            for writer in self._writers:
                self._attempt(writer.write)

    def after_train(self) -> None:
        """Write what came since, then close."""
        for writer in self._writers:
            self._attempt(writer.write)
            self._attempt(writer.close)
        for name, count in self._failures.items():
            logger.warning("%s failed %d times; what it should have written then may be missing", name, count)
        self._failures.clear()

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # asyncio.CancelledError of a tracker, for example
            name = type(getattr(call, "__self__", call)).__name__
            self._failures[name] = self._failures.get(name, 0) + 1
            if self._failures[name] == 1:
                logger.exception("%s failed; training goes on without what it should have written", name)
