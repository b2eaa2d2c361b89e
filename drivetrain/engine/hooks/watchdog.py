"""Saying where a training hangs."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from time import monotonic
from types import FrameType

from drivetrain.engine.hook_base import POINTS, HookBase
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import TrainingError
from drivetrain.runtime import comm

__all__ = ["Watchdog"]

logger = logging.getLogger(__name__)

_PHASES = frozenset((*POINTS, "run_step", "fetch", "forward", "backward", "step"))


class Watchdog(HookBase):
    """Logs rank, iteration, phase, hook and the Python stacks of all threads when an iteration takes too long.

    A thread looks on, four times per timeout; an iteration pays for one clock reading. Where the training is (waiting
    for data, forward, backward, in which hook) is found from its stack when it hangs. Code that holds Python's
    interpreter lock while it hangs stops the watchdog as well.

    Args:
        timeout: seconds that a step may take.
        first_timeout: seconds for the first step, in which workers start and kernels are chosen (default: 10 times
            ``timeout``).
        hooks_timeout: seconds when hooks are at work, such as an evaluation (default: 10 times ``timeout``).
        abort: end this process (exit code 1) after the report, so that a launcher ends or restarts the others.
    """

    def __init__(
        self,
        timeout: float,
        *,
        first_timeout: float | None = None,
        hooks_timeout: float | None = None,
        abort: bool = False,
    ) -> None:
        if not timeout > 0:
            raise TrainingError(f"timeout={timeout!r} of Watchdog has to be more than 0 seconds")
        self._timeout = float(timeout)
        self._first_timeout = 10 * self._timeout if first_timeout is None else first_timeout
        self._hooks_timeout = 10 * self._timeout if hooks_timeout is None else hooks_timeout
        self._abort = abort
        self._mark = (0.0, 0)  # when the newest iteration began, and which it is
        self._first = 0
        self._reported: int | None = None
        self._thread_id = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def before_train(self) -> None:
        """Start the thread."""
        self._thread_id = threading.get_ident()
        self._first = self.trainer.iter
        self._mark = (monotonic(), self._first)
        self._reported = None
        self._stopped.clear()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def before_step(self) -> None:
        """Start the clock."""
        self._mark = (monotonic(), self.trainer.iter)

    def after_train(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        interval = min(self._timeout, self._first_timeout, self._hooks_timeout) / 4
        looked = monotonic()
        while not self._stopped.wait(interval):
            now = monotonic()
            start, iteration = self._mark
            if now - looked > 2 * interval + 1:
                self._mark = (now, iteration)  # the whole process was stopped, not the training alone
            elif iteration != self._reported:
                self._judge(now - start, iteration)
            looked = now

    def _judge(self, seconds: float, iteration: int) -> None:
        """Report an iteration that takes longer than it may where it is now."""
        if seconds < min(self._timeout, self._first_timeout, self._hooks_timeout):
            return
        phase, hook = _whereabouts(sys._current_frames().get(self._thread_id))
        step_limit = self._first_timeout if iteration == self._first else self._timeout
        limit = self._hooks_timeout if hook else step_limit
        if seconds < limit:
            return
        self._reported = iteration
        logger.critical(
            "Rank %d hangs: iteration %d has taken %.1f s (more than %g s), in %s%s\n%s",
            comm.get_rank(),
            iteration,
            seconds,
            limit,
            phase,
            f" of hook {hook}" if hook else "",
            _all_stacks(self._thread_id),
        )
        if self._abort:
            os._exit(1)


def _whereabouts(frame: FrameType | None) -> tuple[str, str]:
    """The innermost part of the loop, and the innermost hook, that a stack is in; ``""`` without a hook."""
    phase, hook = "unknown", ""
    for current in _outermost_first(frame):
        name = current.f_code.co_name
        owner = current.f_locals.get("self")
        if isinstance(owner, TrainerBase) and name in _PHASES:
            phase = name
        elif isinstance(owner, HookBase):
            hook = type(owner).__name__
    return phase, hook


def _outermost_first(frame: FrameType | None) -> Iterator[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return reversed(frames)


def _all_stacks(main: int) -> str:
    """The stacks of all threads but this one, that of the training first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    others = [ident for ident in frames if ident not in (main, threading.get_ident())]
    parts = []
    for ident in (main, *others):
        if ident in frames:
            parts += [f"Thread {names.get(ident, ident)}:\n", *traceback.format_stack(frames[ident])]
    return "".join(parts)
