"""Saving before a cluster, a person or a time limit ends the run."""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

import torch

from drivetrain.checkpoint.checkpointer import unwrap_model
from drivetrain.engine.hook_base import HookBase
from drivetrain.engine.state import prepare_to_save
from drivetrain.errors import TrainingError
from drivetrain.runtime import comm

from .agreement import Agreement, Departure
from .evaluation import EvalHook
from .schedule import last_iteration
from .startup import EXIT_RESUMABLE, asked_at_startup, before_startup

__all__ = ["EXIT_RESUMABLE", "PreemptionCheckpointer"]

logger = logging.getLogger(__name__)

_LATE = "the time limit is reached"
_FIGURES = ("evaluate", "accumulate", "summarize")  # how evaluators, and COCO's libraries, call the parts of their work
_LISTEN = 0.25  # seconds between two looks at the clock and at what other ranks say
_SIGNALS = tuple(s for name in ("SIGTERM", "SIGUSR1", "SIGINT") if (s := getattr(signal, name, None)) is not None)


class PreemptionCheckpointer(HookBase):
    """On SIGTERM, SIGUSR1, SIGINT or a time limit: saves a checkpoint at the next step and exits with code 75.

    A signal sets a flag and nothing more. At the next step boundary, with several ranks at one that all agree on within
    about two seconds, ``<file_prefix>_preempted`` is saved, which is where a resume continues; then ``SystemExit(75)``
    ends the training like an exception does: writers are closed, no final checkpoint or evaluation is made.

    An evaluation, and any other pass of the model without gradients, is left at its next batch, as if it had not begun;
    a resume makes up for it (see PeriodicHook), for the one after the last iteration too. It is also left where it
    begins a part of its figures, after the last batch (COCO's have one for each class). Several ranks leave it
    together, or finish it where one of them waits for the others in a collective (see :class:`Departure`).

    So the time from the signal to the exit is that of one step, one batch of an evaluation or one part of its figures
    (of COCO's boxes on 5,000 images a tenth of a second, five seconds if they have one class), with several ranks the
    two seconds after which they agree; and that of writing the checkpoint.

    A second SIGINT is not caught. The handlers that were there before come back in ``after_train``. Signals need the
    main thread: elsewhere the time limit alone is watched. For signals before the training begins see
    :func:`drivetrain.engine.hooks.startup.resumable_startup`.

    Register it on all ranks, after the hooks whose ``after_train`` writes.

    Args:
        checkpointer: what saves, a :class:`drivetrain.checkpoint.Checkpointer`.
        time_limit: seconds, counted from the construction of this hook, after which to save and exit.
        file_prefix: how the checkpoint's name begins.
        signals: the signals to catch.
        command: what continues the training, for the end of the log.
    """

    def __init__(
        self,
        checkpointer: Any,
        time_limit: float | None = None,
        *,
        file_prefix: str = "model",
        signals: Iterable[signal.Signals] = _SIGNALS,
        command: str = "",
    ) -> None:
        if time_limit is not None and not time_limit > 0:
            raise TrainingError(f"time_limit={time_limit!r} of PreemptionCheckpointer has to be more than 0 seconds")
        self._checkpointer = checkpointer
        self._deadline = None if time_limit is None else monotonic() + time_limit
        self._file_prefix = file_prefix
        self._signals = tuple(signals)
        self._command = command
        self._saved = False
        self._previous: dict[int, Any] = {}
        self._reason: str | None = None
        self._process = os.getpid()
        self._agreement: Agreement | None = None
        self._departure: Departure | None = None
        self._uncatch: list[Callable[[], None]] = []  # put the model's call back
        self._ended = threading.Event()
        self._listener: threading.Thread | None = None
        self._left_evaluation = False

    def before_train(self) -> None:
        """Catch the signals."""
        self._reason, self._left_evaluation, self._saved = None, False, False
        self._process = os.getpid()
        several = comm.get_world_size() > 1
        self._agreement, self._departure = (Agreement(), Departure()) if several else (None, None)
        self._wait_at_evaluations(self._meet if several else None)
        if several or self._deadline is not None:
            self._ended.clear()
            self._listener = threading.Thread(target=self._listen, name="preemption", daemon=True)
            self._listener.start()
        if threading.current_thread() is not threading.main_thread():
            logger.warning("Signals are not caught, for training does not run in the main thread")
            return
        for number in self._signals:
            previous = signal.signal(number, self._note)
            self._previous[number] = before_startup(_before_another(previous, number))
            if asked_at_startup(previous):
                self._stop_soon(f"signal {signal.Signals(number).name} was received before the training began")

    def before_step(self) -> None:
        """At a step boundary: save and exit if that was asked for."""
        if self._reason is None and self._is_late():
            self._reason = _LATE
        if self._agreement is None:
            if self._reason is None:
                return
        elif not self._agreement.reached(self._reason is not None, self.trainer.iter):
            return
        self._save()
        raise SystemExit(EXIT_RESUMABLE)

    def after_train(self) -> None:
        """Save if an evaluation was left; give signals back."""
        self._ended.set()
        if self._listener is not None:
            self._listener.join()  # before the handlers go, one of which it calls
            self._listener = None
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()
        self._leave_model_alone()
        self._wait_at_evaluations(None)
        if self._agreement is not None:
            self._agreement.close()
            self._agreement = None
        if self._left_evaluation:
            self._left_evaluation = False
            self._save()
        if self._saved and self._command and comm.is_main_process():
            logger.warning("Continue this training with: %s", self._command)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: it runs between any two instructions, so it does next to nothing."""
        if os.getpid() != self._process:
            return  # a forked worker of the loader: it serves until the training lets it go
        name = signal.Signals(number).name
        if self._reason is None:
            os.write(2, f"\n{name}: saving a checkpoint after this step, then exiting\n".encode())
            self._stop_soon(f"signal {name} was received")
        else:
            self._leave_figures()
        if number == signal.SIGINT:
            signal.signal(number, self._previous.pop(number, signal.default_int_handler))

    def _listen(self) -> None:
        """A thread: learn of the time limit and of other ranks within evaluations too; tell other ranks."""
        departure = self._departure
        while not self._ended.wait(_LISTEN):
            if self._reason is None and self._is_late():
                self._stop_soon(_LATE)
            if self._reason is None and departure is not None and departure.asked:
                self._stop_soon("another rank was asked to stop")
            if self._reason is not None:
                if departure is not None:
                    departure.ask()
                self._wake()
                return

    def _wake(self) -> None:
        """Have the handler called, as by a signal, in the main thread, which alone can ask to be told of its calls."""
        for number in self._signals:
            if number != signal.SIGINT and signal.getsignal(number) == self._note:
                _thread.interrupt_main(number)
                return

    def _is_late(self) -> bool:
        return self._deadline is not None and monotonic() >= self._deadline

    def _stop_soon(self, reason: str) -> None:
        """Stop at the next step boundary, or at the next batch of an evaluation."""
        self._reason = reason
        if threading.current_thread() is threading.main_thread():
            self._leave_figures()
        model = getattr(self.trainer, "model", None)
        if not isinstance(model, torch.nn.Module):
            return
        model = unwrap_model(model)  # evaluations call what is inside of wrappers
        compiled = model._compiled_call_impl
        if compiled is None:
            self._uncatch.append(model.register_forward_pre_hook(self._leave_evaluation).remove)
            return

        def call(*args: Any, **kwargs: Any) -> Any:  # compiled code passes by hooks that it does not know
            self._leave_evaluation(model, args)
            return compiled(*args, **kwargs)

        model._compiled_call_impl = call
        self._uncatch.append(lambda: setattr(model, "_compiled_call_impl", compiled))

    def _leave_figures(self) -> None:
        """Have the main thread told of calls, to leave an evaluation that has no batch left to leave it at."""
        if sys.getprofile() is not None:
            return  # it is already, or somebody profiles

        def told(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call" and frame.f_code.co_name in _FIGURES and _within_evaluation(frame):
                self._leave_evaluation(None, None)

        def stop() -> None:
            if sys.getprofile() is told:
                sys.setprofile(None)

        sys.setprofile(told)
        self._uncatch.append(stop)

    def _leave_model_alone(self) -> None:
        while self._uncatch:
            self._uncatch.pop()()

    def _leave_evaluation(self, model: Any, inputs: Any) -> None:
        """Called when the model is, once it is to stop: without gradients, it is an evaluation."""
        if torch.is_grad_enabled():
            return  # a step
        if self._departure is not None and not self._departure.together():
            self._leave_model_alone()
            return
        self._exit_evaluation()

    def _wait_at_evaluations(self, wait: Callable[[], None] | None) -> None:
        for hook in self.trainer._hooks:
            if isinstance(hook, EvalHook):
                hook.meet = wait

    def _meet(self) -> None:
        """Called at the end of an evaluation, where ranks with nothing left to do wait for the others."""
        if self._departure is not None and self._departure.meet():
            self._exit_evaluation()

    def _exit_evaluation(self) -> NoReturn:
        self._left_evaluation = True
        raise SystemExit(EXIT_RESUMABLE)

    def _save(self) -> None:
        """Save on rank 0, while the others wait."""
        iteration = last_iteration(self.trainer)
        reason = self._reason or "another rank was asked to stop"
        if callable(getattr(self.trainer, "read_device", None)):
            prepare_to_save(self.trainer)
        if comm.is_main_process():
            self._checkpointer.save(f"{self._file_prefix}_preempted", iteration=iteration)
        comm.synchronize()
        self._saved = True
        logger.warning(
            "Saved after iteration %d, because %s; exit code %d means: run again to continue",
            iteration,
            reason,
            EXIT_RESUMABLE,
        )


def _before_another(handler: Any, number: int) -> Any:
    """The handler before that of another hook of this kind, which is at work as well and will give it back too."""
    other = getattr(handler, "__self__", None)
    return other._previous.get(number, handler) if isinstance(other, PreemptionCheckpointer) else handler


def _within_evaluation(frame: FrameType | None) -> bool:
    """Whether an EvalHook is at work, rather than a step with a function of such a name."""
    while frame is not None and frame.f_code is not EvalHook.act.__code__:
        frame = frame.f_back
    return frame is not None
