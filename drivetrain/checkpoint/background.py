"""Saving while the training goes on: one thread per save, one save at a time in a process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from drivetrain.errors import DrivetrainError

__all__ = ["Saving", "alarm", "wait_for_copies", "wait_for_saves"]

_logger = logging.getLogger(__name__)


class Saving(threading.Thread):
    """A save in flight.

    It is no daemon, so that a process that ends waits for it. A process that is killed loses this save alone.

    Args:
        work: writes the checkpoint.
        done: called after it, in this thread, with None or with the error of ``work``.
        copied: returns when ``work`` needs the training's own tensors no more; by default it never does.
    """

    def __init__(
        self,
        work: Callable[[], object],
        done: Callable[[Exception | None], None],
        copied: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(target=_run, args=(work, done), name="save-checkpoint", daemon=False)
        self.copied = copied

    def start(self) -> None:
        """Begin; where no thread is to be had, save at once."""
        try:
            super().start()
        except RuntimeError:
            self.run()


def wait_for_saves() -> None:
    """Return once no save is in flight, whichever object of this process began it; within a save, return at once."""
    for saving in _in_flight():
        saving.join()


def wait_for_copies() -> None:
    """Return once weights and optimizer states may be changed; to be called before that is done outside of a step.

    A periodic checkpoint may copy them while the training goes on to its next optimizer step. That step waits, and so
    does loading a state into the model; code that changes weights in another way calls this first.
    """
    for saving in _in_flight():
        saving.copied()


def _in_flight() -> list[Saving]:
    """The saves of this process; none within a save, which cannot wait for itself."""
    if isinstance(threading.current_thread(), Saving):
        return []
    return [thread for thread in threading.enumerate() if isinstance(thread, Saving)]


def alarm(what: str, error: Exception) -> None:
    """Say in the log that a save failed and that the training goes on; errors nobody foresaw with their traceback."""
    unforeseen = None if isinstance(error, (DrivetrainError, OSError)) else error
    text = str(error) if unforeseen is None else f"{type(error).__name__}: {error}"
    _logger.error("CHECKPOINT FAILED %s, training goes on: %s", what, text, exc_info=unforeseen)


def _run(work: Callable[[], object], done: Callable[[Exception | None], None]) -> None:
    failure: Exception | None = None
    try:
        work()
    except Exception as error:
        failure = error
    try:
        done(failure)
    except Exception as error:
        alarm("after it was written" if failure is None else f"({failure})", error)
