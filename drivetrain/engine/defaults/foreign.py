"""Going on with a training that detectron2 saved in its older form, with optimizer and schedule beside the model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from drivetrain.errors import CheckpointError

__all__ = ["adopt_states"]

logger = logging.getLogger(__name__)


def adopt_states(trainer: Any, loaded: Mapping[str, Any]) -> None:
    """Give optimizer and schedule of a trainer the states that a checkpoint has under their names.

    Its files since version 0.4 have them under ``trainer``, as those of this package do, and need none of this.

    Args:
        trainer: with ``optimizer``, ``scheduler`` and ``restored_parts``; the parts that were restored are added.
        loaded: what of the checkpoint was not restored by its checkpointer.

    Raises:
        CheckpointError: the state of the optimizer is that of other parameters.
    """
    if "optimizer" in loaded and "optimizer" not in trainer.checkpointer.checkpointables:
        _load_optimizer(trainer.optimizer, loaded["optimizer"])
        trainer.restored_parts = (*trainer.restored_parts, "optimizer")
    if "scheduler" in loaded and "scheduler" not in trainer.checkpointer.checkpointables:
        trainer.scheduler.load_state_dict(dict(loaded["scheduler"]))
        trainer.restored_parts = (*trainer.restored_parts, "scheduler")
    if trainer.restored_parts:
        logger.info("Restored from a checkpoint of detectron2: %s", ", ".join(trainer.restored_parts))


def _load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state whose parameters are numbered in the order of the optimizer's groups.

    Raises:
        CheckpointError: it does not fit.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in state["state"].items():
        shapes = {tuple(value.shape) for value in values.values() if isinstance(value, torch.Tensor) and value.dim()}
        if number >= len(parameters) or shapes - {tuple(parameters[number].shape)}:
            raise CheckpointError(
                f"the checkpoint's optimizer state number {number} has the shape {sorted(shapes)}, which is not that "
                f"of the optimizer's parameter {number} of {len(parameters)}: build the optimizer as it was built "
                "for the checkpoint, or give the file as MODEL.WEIGHTS to start anew from its weights"
            )
    try:
        optimizer.load_state_dict(dict(state))
    except ValueError as error:
        raise CheckpointError(f"the checkpoint's optimizer state cannot be taken up: {error}") from error
