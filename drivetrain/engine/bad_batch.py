"""Batches whose loss or gradient was not finite: saved as data, with what it takes to make the step again."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from drivetrain.checkpoint import unwrap_model
from drivetrain.checkpoint.files import atomic_write
from drivetrain.checkpoint.formats import checkpoint_writer
from drivetrain.runtime import comm

if TYPE_CHECKING:
    from .train_loop import SimpleTrainer

__all__ = ["BadBatchWriter", "to_plain"]

logger = logging.getLogger(__name__)

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class BadBatchWriter:
    """Writes ``bad_batch_<iteration>.pt``: batch, losses, weights and random state of a step that was left out.

    Each rank whose own loss was bad writes its part (``.rank<r>`` before the ending for r > 0); where the losses were
    finite and a gradient was not, all do. A file is data: ``torch.load(file, weights_only=True)`` reads it.
    Failing to write is an error in the log and nothing else.

    Args:
        folder: where the files go.
        config: the training's config as YAML, from which the model can be built again; "" where there is none.
        most: files written by this process at most.
    """

    def __init__(self, folder: str, *, config: str = "", most: int = 10) -> None:
        self._folder = Path(folder)
        self._config = config
        self._left = most

    def save(self, trainer: SimpleTrainer, iteration: int, losses: Mapping[str, float], batch: Any = None) -> str:
        """Save a step that was kept from the weights.

        Args:
            trainer: whose step.
            iteration: which step.
            losses: its losses, means over ranks.
            batch: its last batch, if it is still at hand; a loader that can make batches by their number is asked.

        Returns:
            The end of a sentence that tells how to look at it; "" if nothing was saved.
        """
        own = trainer._guard.has_bad_loss() or batch is not None
        if not (own or all(map(math.isfinite, losses.values()))):
            return ""  # another rank's loss
        if self._left == 0:
            return ""
        self._left -= 1
        rank = comm.get_rank()
        path = self._folder / f"bad_batch_{iteration}{f'.rank{rank}' if rank else ''}.pt"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            atomic_write(path, checkpoint_writer(self._content(trainer, iteration, losses, batch)))
        except Exception:
            # The bad step is what has to be told.
            logger.exception("The batch of iteration %d cannot be saved:", iteration)
            return ""
        return f" with: drivetrain replay {path}"

    def _content(
        self, trainer: SimpleTrainer, iteration: int, losses: Mapping[str, float], batch: Any
    ) -> dict[str, Any]:
        start = trainer._guard.start_of(iteration)
        batches = _batches_from(trainer, None if start is None else start.position)
        if not batches and batch is not None:
            batches = [batch]
        return {
            "iteration": iteration,
            "rank": comm.get_rank(),
            "world_size": comm.get_world_size(),
            "losses": dict(losses),
            "batches": [to_plain(b) for b in batches],
            "rng": None if start is None else start.rng,
            "device_rng": None if start is None else start.device_rng,
            "position": None if start is None else start.position,
            "precision": trainer._numerics.name,
            "config": self._config,
            # Weights did not change since, unless steps are skipped and the device was read later.
            "weights_iteration": iteration if trainer._guard.policy != "skip" else trainer.iter,
            "model": unwrap_model(trainer.model).state_dict(),
        }


def _batches_from(trainer: SimpleTrainer, position: int | None) -> list[Any]:
    """An iteration's batches, made again by the loader; empty where it cannot."""
    make = getattr(trainer.data_loader, "batch", None)
    if position is None or not callable(make):
        return []
    try:
        return [make(position + i) for i in range(trainer.accumulate)]
    except Exception:
        logger.exception("The loader cannot make batch %d again:", position)
        return []


def to_plain(value: Any) -> Any:
    """A batch as tensors and plain values: objects become ``{"object": class, "state": attributes}``.

    Only objects of ``drivetrain.structures`` can be made again of that; see :mod:`drivetrain.engine.defaults.replay`.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor).cpu()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"object": "numpy", "state": torch.from_numpy(np.ascontiguousarray(value))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key if type(key) in _PLAIN else str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    kind = type(value)
    if hasattr(value, "__dict__"):
        return {"object": f"{kind.__module__}.{kind.__qualname__}", "state": to_plain(vars(value))}
    return repr(value)
