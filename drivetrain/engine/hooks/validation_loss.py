"""The training loss on held-out data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from drivetrain.checkpoint.checkpointer import unwrap_model
from drivetrain.events.storage import EventStorage
from drivetrain.runtime import comm
from drivetrain.runtime.seeding import seed_all_rng

from .publishing import PublishingHook
from .undisturbed import undisturbed

__all__ = ["ValidationLoss"]

logger = logging.getLogger(__name__)


class ValidationLoss(PublishingHook):
    """Puts ``validation_loss``, the mean loss over a loader of held-out data, and ``validation/<name>`` of each part.

    The model runs as in training (that is where it returns losses), in the trainer's precision, without gradients;
    batches weigh by their number of samples, over all ranks. Buffers and random generators come back bit for bit. What
    is random in the model (dropout, sampled proposals) is drawn alike each time, so that the curve shows the model
    rather than the dice. Register it on all ranks. The result also goes to the hooks that follow evaluations:
    ``EarlyStopping("validation_loss", patience=5, mode="min")``.

    Args:
        loader: gives batches of held-out data, with annotations, from its start each time; finite.
        period: iterations between two passes; 0 for one at the end alone.
    """

    _on_all_ranks = True

    def __init__(self, loader: Iterable[Any], period: int) -> None:
        super().__init__(period)
        self._loader = loader

    def act(self, iteration: int) -> None:
        """Pass over the loader; put and publish the losses."""
        model = unwrap_model(self.trainer.model)
        with undisturbed(model, buffers=True), torch.no_grad(), EventStorage(iteration):
            seed_all_rng(0)
            samples, sums = self._run(model)
        losses = _means_over_ranks(samples, sums)
        if not losses:
            logger.warning("ValidationLoss got no batch: give a loader that can be iterated again")
            return
        results = {"validation_loss": sum(losses.values())}
        if list(losses) != ["total_loss"]:
            results |= {f"validation/{name}": value for name, value in losses.items()}
        self._put(iteration, results)
        self.publish(iteration, results)

    def _run(self, model: torch.nn.Module) -> tuple[int, dict[str, torch.Tensor]]:
        """The number of samples, and for each loss its sum over them."""
        samples = 0
        sums: dict[str, torch.Tensor] = {}
        for batch in self._loader:
            size = _batch_size(batch)
            with _precision_context(self.trainer):
                losses = model(batch)
            losses = {"total_loss": losses} if isinstance(losses, torch.Tensor) else losses
            for name, value in losses.items():
                share = value.detach().float() * size
                sums[name] = sums[name] + share if name in sums else share
            samples += size
        return samples, sums


def _means_over_ranks(samples: int, sums: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Each loss's mean over the samples of all ranks; empty when there were none."""
    own = {"samples": samples, "sums": {name: float(value) for name, value in sums.items()}}
    gathered = comm.all_gather(own)
    total = sum(rank["samples"] for rank in gathered)
    names = dict.fromkeys(name for rank in gathered for name in rank["sums"])
    return {name: sum(rank["sums"].get(name, 0.0) for rank in gathered) / total for name in names} if total else {}


def _precision_context(trainer: Any) -> AbstractContextManager[Any]:
    """The context in which the trainer's own step calls the model."""
    numerics = getattr(getattr(trainer, "_trainer", trainer), "_numerics", None)
    return nullcontext() if numerics is None else numerics.context()


def _batch_size(batch: Any) -> int:
    """The number of samples in a list of samples, or in tensors whose first dimension counts them."""
    if isinstance(batch, torch.Tensor):
        return int(batch.shape[0])
    if isinstance(batch, Mapping):
        return _batch_size(next(iter(batch.values())))
    if isinstance(batch, Sequence) and batch and isinstance(batch[0], torch.Tensor):
        return int(batch[0].shape[0])
    return len(batch)
