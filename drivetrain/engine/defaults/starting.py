"""How a training begins (where it stopped, beyond its end, or anew from other weights), and when it is over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from drivetrain.checkpoint import model_state, read_checkpoint, unwrap_model
from drivetrain.checkpoint.formats import without_root
from drivetrain.engine.hooks.schedule import finished, last_iteration
from drivetrain.errors import CheckpointError, ConfigError
from drivetrain.modeling.weights import load_weights
from drivetrain.runtime import comm

from .foreign import adopt_states
from .resume import EndMark, ResumePlan

if TYPE_CHECKING:
    import torch

    from drivetrain.checkpoint import Checkpointer
    from drivetrain.config import CfgNode

__all__ = ["Starting"]

logger = logging.getLogger(__name__)


class _Trainer(Protocol):
    """What the ways to begin need of a trainer."""

    cfg: CfgNode
    model: torch.nn.Module
    checkpointer: Checkpointer
    iter: int
    start_iter: int
    max_iter: int
    restored_parts: tuple[str, ...]


class Starting:
    """The ways to begin: ``resume_or_load``, ``resume``, ``extend`` and ``finetune``."""

    restored_parts: tuple[str, ...] = ()

    def resume_or_load(self: Any, resume: bool = True) -> None:
        """Continue from the last checkpoint in ``OUTPUT_DIR``, or else load ``MODEL.WEIGHTS`` and start at 0.

        Args:
            resume: False never continues.

        Raises:
            CheckpointError: a file is missing, damaged or of another model; nothing was changed then.
        """
        _begin(self, resume)

    def resume(self: Any, *, end_again: bool = False) -> None:
        """Continue from the last checkpoint in ``OUTPUT_DIR``.

        If it ended after its last iteration, but before it was over, then ``train()`` runs no iteration and makes up
        for the last evaluation and what else comes at the end.

        Args:
            end_again: do that also if it was over.

        Raises:
            CheckpointError: there is none, or none that is whole and of this model.
            ConfigError: nothing is left to do.
        """
        _require_checkpoint(self, "continue")
        _begin(self, True)
        if self.start_iter < self.max_iter:
            return
        over = comm.all_gather(EndMark(self.cfg.OUTPUT_DIR).iteration)[0]  # all ranks do the same
        if over == self.start_iter - 1 and not end_again:
            raise ConfigError(
                f"no iteration is left: the checkpoint in {self.cfg.OUTPUT_DIR} has finished iteration "
                f"{self.start_iter - 1} and SOLVER.MAX_ITER is {self.max_iter}; extend the training by a larger "
                "SOLVER.MAX_ITER, or evaluate it"
            )
        logger.info(
            "All %d iterations are done, but the training ended before its last evaluation and final work were: they "
            "are made up for now",
            self.max_iter,
        )

    def before_train(self: Any) -> None:
        """Call the hooks' ``before_train``: from now on the training is not over."""
        if (mark := _end_mark(self)) is not None:
            mark.remove()
        super().before_train()  # type: ignore[misc]

    def after_train(self: Any) -> None:
        """Call the hooks' ``after_train``; then the training is over, if it was not ended by an exception."""
        super().after_train()  # type: ignore[misc]
        if finished(self) and (mark := _end_mark(self)) is not None:
            mark.set(last_iteration(self))

    def extend(self: Any) -> None:
        """Continue a training, finished or not, to a larger ``SOLVER.MAX_ITER`` than it was made for.

        Everything is restored as by :meth:`resume`; the learning rate follows the schedule of the new length from the
        next iteration on.

        Raises:
            CheckpointError: there is no checkpoint in ``OUTPUT_DIR``, or none that is whole and of this model.
            ConfigError: ``SOLVER.MAX_ITER`` is not larger than before.
        """
        _require_checkpoint(self, "extend")
        loaded = _begin(self, True)
        saved = yaml.safe_load(loaded.get("metadata", {}).get("config", "") or "{}")
        before = saved.get("SOLVER", {}).get("MAX_ITER", self.start_iter)
        if not isinstance(before, int) or self.max_iter <= max(before, self.start_iter):
            raise ConfigError(
                f"SOLVER.MAX_ITER is {self.max_iter}, but the training in {self.cfg.OUTPUT_DIR} was made for {before} "
                f"iterations and has done {self.start_iter}: give a larger SOLVER.MAX_ITER (--max-iter) to extend it"
            )
        rate = max(float(group["lr"]) for group in self.optimizer.param_groups)
        logger.info(
            "Extended from %s to %d iterations; the schedule is that of the new length, the next learning rate %.4g",
            before,
            self.max_iter,
            rate,
        )

    def finetune(self: Any, path: str) -> None:
        """Start at iteration 0 from the weights of another training: all that fit the model by name and shape.

        The averaged weights are taken where that training kept an average. What fits and what does not is logged as a
        table; layers that do not fit, such as those for other classes, keep their new weights.

        Args:
            path: a checkpoint or weights file.

        Raises:
            CheckpointError: the file is missing or damaged, or nothing in it fits; the model is as before then.
        """
        data, model = read_checkpoint(path), unwrap_model(self.model)
        state: dict[str, Any] = dict(without_root(model_state(data, str(path)), model.state_dict()))
        state |= data.get("trainer", {}).get("hooks", {}).get("EMA", {}).get("average", {})
        report = load_weights(model, state, source=str(path), partial=True)
        logger.info("Fine-tuning: %s", report.render())
        self.restored_parts, self.start_iter, self.iter = (), 0, 0


def _begin(trainer: _Trainer, resume: bool) -> dict[str, Any]:
    """Continue or load weights; what the checkpoint holds beside the states."""
    trainer.restored_parts = ()
    continued = resume and trainer.checkpointer.has_checkpoint()
    loaded = trainer.checkpointer.resume_or_load(trainer.cfg.MODEL.WEIGHTS, resume=resume)
    if not trainer.restored_parts and continued and "iteration" in loaded:
        trainer.start_iter = loaded["iteration"] + 1  # of a checkpointer that was made without the trainer
        adopt_states(trainer, loaded)
        return loaded
    if trainer.restored_parts:
        trainer.start_iter = trainer.iter + 1
        file = trainer.checkpointer.get_checkpoint_file()
        ResumePlan.of(trainer, file, loaded.get("metadata", {})).log()
    return loaded


def _require_checkpoint(trainer: _Trainer, verb: str) -> None:
    if not trainer.checkpointer.has_checkpoint():
        raise CheckpointError(
            f"there is no checkpoint in {trainer.cfg.OUTPUT_DIR!r} (OUTPUT_DIR), so there is nothing to {verb}: give "
            "the output folder of a training, or start one with 'drivetrain train'"
        )


def _end_mark(trainer: Any) -> EndMark | None:
    """That of the output folder, on the rank that writes; None where no config names a folder."""
    folder = getattr(getattr(trainer, "cfg", None), "OUTPUT_DIR", None)
    return EndMark(folder) if folder and comm.is_main_process() else None
