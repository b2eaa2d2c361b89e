"""Saving checkpoints at regular intervals, as a hook."""

from __future__ import annotations

from drivetrain.checkpoint.background import wait_for_saves
from drivetrain.checkpoint.folder import CheckpointFolder
from drivetrain.checkpoint.periodic import PeriodicCheckpointer as _PeriodicCheckpointer
from drivetrain.engine.hook_base import HookBase

from .schedule import finished, last_iteration

__all__ = ["PeriodicCheckpointer"]


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """:class:`drivetrain.checkpoint.PeriodicCheckpointer` as a hook; ``max_iter`` is the trainer's, also when it moves.

    ``model_final`` is written after the last iteration: in ``after_step``, or in ``after_train`` when another hook
    ended the training after this one had run. A training that failed has none.
    """

    _final_written: bool | None = None  # None before the first iteration

    def before_train(self) -> None:
        """Learn where training ends."""
        self.max_iter = self.trainer.max_iter
        self._final_written = None

    def after_step(self) -> None:
        """Save if it is time to."""
        trainer = self.trainer
        iteration, self.max_iter = trainer.iter, trainer.max_iter
        self._final_written = iteration + 1 >= self.max_iter
        self.step(iteration)

    def after_train(self) -> None:
        """Write ``model_final`` if training finished without it; return when nothing is being written any more."""
        if finished(self.trainer) and (self._final_written is False or self._lacks_final()):
            self._final_written = True
            self.save(f"{self.file_prefix}_final", iteration=last_iteration(self.trainer))
        wait_for_saves()

    def _lacks_final(self) -> bool:
        """Whether a training was resumed with nothing left to do, killed just before it wrote its ``model_final``.

        One that was extended has an older file of that name until then.
        """
        path = getattr(self.checkpointer, "save_dir", "")
        resumed_at_end = self._final_written is None and self.trainer.start_iter > 0
        if not (resumed_at_end and path):
            return False
        folder, file = CheckpointFolder(path), f"{self.file_prefix}_final.pth"
        saved = [entry.iteration for entry in folder.manifest().find(file) if not entry.pending]
        return file not in folder.files() or any(iteration != last_iteration(self.trainer) for iteration in saved)
