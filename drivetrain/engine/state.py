"""What a resumed training needs beside the model and the hooks, gathered from a SimpleTrainer and given back to it."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drivetrain.errors import TrainingError
from drivetrain.runtime import comm
from drivetrain.runtime.seeding import capture_rng_state, restore_rng_state, seed_all_rng
from drivetrain.solver.optimizer_state import check_optimizer_state

if TYPE_CHECKING:
    from .finite import Rewind
    from .train_loop import SimpleTrainer

__all__ = ["capture", "prepare_if_due", "prepare_to_save", "restore", "rewind"]

logger = logging.getLogger(__name__)

_MOST_REWINDS = 3  # to one checkpoint


def capture(trainer: SimpleTrainer) -> dict[str, Any]:
    """Optimizer, precision, guard, data position, random generators and newest events.

    Everything in it is a tensor or a plain value. A loader takes part when it has a ``state_dict``. Generators are
    those of all ranks where :func:`prepare_to_save` was called after the same iteration, else this rank's.
    """
    state: dict[str, Any] = {
        "optimizer": trainer.optimizer.state_dict(),
        "non_finite": trainer._guard.state_dict(),
        "rng": {str(comm.get_rank()): capture_rng_state()},
    }
    iteration, gathered = trainer.__dict__.get("_gathered_rng", (None, {}))
    if iteration == trainer._finished_iteration():
        state["rng"] = gathered
    if scaler := trainer._numerics.state_dict():
        state["grad_scaler"] = scaler
    if callable(loader_state := getattr(trainer.data_loader, "state_dict", None)):
        state["data_loader"] = loader_state()
    if (storage := trainer.__dict__.get("storage")) is not None:
        state["events"] = storage.state_dict()
    return state


def prepare_to_save(trainer: SimpleTrainer) -> None:
    """Before a checkpoint: learn what devices and other ranks know, random states too; all ranks call it together.

    Without it a checkpoint lacks the metrics since the last exchange, and bad steps that nobody knows of yet.
    """
    trainer.read_device(now=True)
    states = comm.all_gather(capture_rng_state())
    by_rank = {str(rank): state for rank, state in enumerate(states)}
    trainer.__dict__["_gathered_rng"] = (trainer._finished_iteration(), by_rank)


def prepare_if_due(trainer: SimpleTrainer, period: int) -> None:
    """:func:`prepare_to_save` after iterations that a PeriodicCheckpointer saves; on all ranks, before it does."""
    done = trainer.iter + 1
    if done >= trainer.max_iter or (period and done % period == 0):
        prepare_to_save(trainer)


def restore(trainer: SimpleTrainer, state: Mapping[str, Any]) -> None:
    """Give back what :func:`capture` gathered; what a state from elsewhere lacks stays as it is.

    The generators of a rank that the checkpoint does not know are seeded from one that it knows, the rank and the
    iteration.
    """
    check_optimizer_state(trainer.optimizer, state["optimizer"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    if "grad_scaler" in state:
        trainer._numerics.load_state_dict(state["grad_scaler"])
    if "non_finite" in state:
        trainer._guard.load_state_dict(state["non_finite"])
    if "data_loader" in state and callable(load := getattr(trainer.data_loader, "load_state_dict", None)):
        trainer.__dict__.pop("_data_loader_iter", None)
        load(state["data_loader"])
    trainer._restored_events = state.get("events")
    if generators := state.get("rng"):
        _restore_rng(generators, comm.get_rank(), int(state["iteration"]))


def _restore_rng(generators: Mapping[str, Any], rank: int, iteration: int) -> None:
    own = generators.get(str(rank))
    if own is not None:
        restore_rng_state(own)
        return
    known = next(iter(generators.values()))["torch"].numpy().tobytes()
    seed_all_rng(zlib.crc32(known + f"{rank}/{iteration}".encode()))


def rewind(trainer: SimpleTrainer, request: Rewind) -> int:
    """Put a training that met a bad step back to its last checkpoint, except for its place in the data.

    All ranks call it together.

    Returns:
        The iteration to go on with; its batch is the one after those that were already used.

    Raises:
        NonFiniteLossError: ``request.error``, if there is no checkpoint, or this one was gone back to before and
            did not help.
        TrainingError: the trainer has no ``checkpointer``.
    """
    checkpointer: Any = getattr(trainer, "checkpointer", None)
    if checkpointer is None:
        raise TrainingError(
            f"non_finite='rewind' needs checkpoints, but {type(trainer).__name__} has no attribute 'checkpointer': set "
            "trainer.checkpointer = Checkpointer(model, folder, trainer=trainer) and register a PeriodicCheckpointer"
        ) from request.error
    if not comm.all_gather(checkpointer.has_checkpoint())[0]:
        raise request.error
    failed = trainer.iter
    loader = trainer.data_loader
    place = loader.state_dict() if callable(getattr(loader, "state_dict", None)) else None  # type: ignore[attr-defined]
    loaded = checkpointer.resume_or_load("", resume=True)
    start = int(loaded.get("iteration", trainer._finished_iteration())) + 1
    if place is not None:
        loader.load_state_dict(place)  # type: ignore[attr-defined]
    step: SimpleTrainer = getattr(trainer, "_trainer", trainer)  # DefaultTrainer may have another one make the step
    step._guard.reset()
    step._recorder.forget()
    before, times = step._guard.rewinds
    times = times + 1 if before == start else 1
    step._guard.rewinds = (start, times)
    if times > _MOST_REWINDS:
        raise request.error
    logger.warning(
        "%s. Going back to iteration %d, %d iterations are lost; the data goes on after the bad batch (time %d of %d)",
        request.error,
        start,
        failed - start,
        times,
        _MOST_REWINDS,
    )
    return start
