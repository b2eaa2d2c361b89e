"""Saving before a cluster, a person or a time limit ends the run."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterable
from time import monotonic
from types import FrameType
from typing import Any

import torch

from drivetrain.engine.hook_base import HookBase
from drivetrain.engine.state import prepare_to_save
from drivetrain.errors import TrainingError
from drivetrain.runtime import comm

from .agreement import Agreement
from .schedule import last_iteration

__all__ = ["EXIT_RESUMABLE", "PreemptionCheckpointer"]

logger = logging.getLogger(__name__)

EXIT_RESUMABLE = 75  # EX_TEMPFAIL: run me again
_SIGNALS = tuple(s for name in ("SIGTERM", "SIGUSR1", "SIGINT") if (s := getattr(signal, name, None)) is not None)


class PreemptionCheckpointer(HookBase):
    """On SIGTERM, SIGUSR1, SIGINT or a time limit: saves a checkpoint at the next step and exits with code 75.

    A signal sets a flag and nothing more. At the next step boundary, with several ranks at one that all agree on within
    about two seconds, ``<file_prefix>_preempted`` is saved, which is where a resume continues; then ``SystemExit(75)``
    ends the training like an exception does: writers are closed, no final checkpoint or evaluation is made.

    In one process an evaluation is left at its next batch; a resume makes up for it (see EvalHook). With several ranks
    it is finished first. A second SIGINT is not caught. The handlers that were there before come back in
    ``after_train``. Signals need the main thread: elsewhere the time limit alone is watched.

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
        self._model_hook: Any = None
        self._left_evaluation = False

    def before_train(self) -> None:
        """Catch the signals."""
        self._reason, self._left_evaluation, self._saved = None, False, False
        self._process = os.getpid()
        self._agreement = Agreement() if comm.get_world_size() > 1 else None
        if threading.current_thread() is not threading.main_thread():
            logger.warning("Signals are not caught, for training does not run in the main thread")
            return
        for number in self._signals:
            self._previous[number] = signal.signal(number, self._note)

    def before_step(self) -> None:
        """At a step boundary: save and exit if that was asked for."""
        if self._deadline is not None and self._reason is None and monotonic() >= self._deadline:
            self._reason = "the time limit is reached"
        if self._agreement is None:
            if self._reason is None:
                return
        elif not self._agreement.reached(self._reason is not None, self.trainer.iter):
            return
        self._save()
        raise SystemExit(EXIT_RESUMABLE)

    def after_train(self) -> None:
        """Save if an evaluation was left; give signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()
        if self._model_hook is not None:
            self._model_hook.remove()
            self._model_hook = None
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
            self._reason = f"signal {name} was received"
            os.write(2, f"\n{name}: saving a checkpoint after this step, then exiting\n".encode())
            model = getattr(self.trainer, "model", None)
            if self._agreement is None and isinstance(model, torch.nn.Module):
                self._model_hook = model.register_forward_pre_hook(self._leave_evaluation)
        if number == signal.SIGINT:
            signal.signal(number, self._previous.pop(number, signal.default_int_handler))

    def _leave_evaluation(self, model: torch.nn.Module, inputs: Any) -> None:
        """Called when the model is, once a signal has come: without gradients, it is an evaluation."""
        if not torch.is_grad_enabled():
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
            "Saved after iteration %d, for %s; exit code %d means: run again to continue",
            iteration,
            reason,
            EXIT_RESUMABLE,
        )
