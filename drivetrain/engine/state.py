"""What a resumed training needs beside the model and the hooks, gathered from a SimpleTrainer and given back to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drivetrain.runtime import comm
from drivetrain.runtime.seeding import capture_rng_state, restore_rng_state

if TYPE_CHECKING:
    from .train_loop import SimpleTrainer

__all__ = ["capture", "restore"]

logger = logging.getLogger(__name__)


def capture(trainer: SimpleTrainer) -> dict[str, Any]:
    """Optimizer, precision, guard, data position, random generators (of this rank) and newest events.

    Everything in it is a tensor or a plain value. A loader takes part when it has a ``state_dict``.
    """
    state: dict[str, Any] = {
        "optimizer": trainer.optimizer.state_dict(),
        "non_finite": trainer._guard.state_dict(),
        "rng": {str(comm.get_rank()): capture_rng_state()},
    }
    if scaler := trainer._numerics.state_dict():
        state["grad_scaler"] = scaler
    if callable(loader_state := getattr(trainer.data_loader, "state_dict", None)):
        state["data_loader"] = loader_state()
    if (storage := trainer.__dict__.get("storage")) is not None:
        state["events"] = storage.state_dict()
    return state


def restore(trainer: SimpleTrainer, state: Mapping[str, Any]) -> None:
    """Give back what :func:`capture` gathered; what a state from elsewhere lacks stays as it is.

    Random generators of ranks that the checkpoint does not know keep the state their seed gave them.
    """
    trainer.optimizer.load_state_dict(state["optimizer"])
    if "grad_scaler" in state:
        trainer._numerics.load_state_dict(state["grad_scaler"])
    if "non_finite" in state:
        trainer._guard.load_state_dict(state["non_finite"])
    if "data_loader" in state and callable(load := getattr(trainer.data_loader, "load_state_dict", None)):
        trainer._data_iterator = None
        load(state["data_loader"])
    trainer._restored_events = state.get("events")
    own = state.get("rng", {}).get(str(comm.get_rank()))
    if own is not None:
        restore_rng_state(own)
