"""True statistics for BatchNorm in place of moving averages."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from drivetrain.checkpoint.checkpointer import unwrap_model
from drivetrain.errors import TrainingError
from drivetrain.events.storage import EventStorage
from drivetrain.runtime import comm

from .schedule import PeriodicHook
from .undisturbed import undisturbed

__all__ = ["PreciseBN"]

logger = logging.getLogger(__name__)


class PreciseBN(PeriodicHook):
    """Gives every BatchNorm layer in training mode the statistics of ``num_iter`` batches under the current weights.

    With m_i and v_i the mean and the (biased) variance of batch i, the layer gets the mean over batches of m_i, and as
    variance the mean of ``v_i + m_i**2`` minus the square of that mean: the moments of all samples together when
    batches are equally large (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3). With several ranks
    the mean goes over the batches of all; then register it on all of them.

    Nothing else changes: no other buffer, no weight, no random generator. Put it before the checkpointer, so that
    checkpoints hold these statistics.

    Args:
        period: iterations between two updates; 0 for one at the end alone.
        model: the model; layers that are in evaluation mode are left alone.
        data_loader: gives batches for ``model(batch)``; each update begins at its start.
        num_iter: batches for an update; fewer if the loader ends before.
    """

    def __init__(self, period: int, model: torch.nn.Module, data_loader: Iterable[Any], num_iter: int) -> None:
        super().__init__(period)
        if num_iter < 1:
            raise TrainingError(f"num_iter={num_iter} of PreciseBN has to be at least 1 batch")
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter

    @staticmethod
    def applies_to(model: torch.nn.Module) -> bool:
        """Whether a model has layers that an update would change."""
        return bool(_layers(model))

    def act(self, iteration: int) -> None:
        """Update the statistics."""
        self.update_stats()

    def update_stats(self) -> None:
        """Compute the statistics and put them into the layers.

        Raises:
            TrainingError: the loader gave no batch.
        """
        model = unwrap_model(self._model)
        layers = _layers(model)
        if not layers:
            logger.warning("PreciseBN has nothing to do: the model has no BatchNorm layer in training mode")
            return
        logger.info("Computing the statistics of %d BatchNorm layers from %d batches", len(layers), self._num_iter)
        moments = [_Moments(layer) for layer in layers]
        try:
            with undisturbed(model, buffers=True), torch.no_grad(), EventStorage(), _uncompiled(model):
                batches = 0
                for batch in islice(self._data_loader, self._num_iter):
                    model(batch)
                    batches += 1
        finally:
            for moment in moments:
                moment.handle.remove()
        if batches == 0:
            raise TrainingError("the data loader of PreciseBN gave no batch: give one that can be iterated again")
        _write(moments)


class _Moments:
    """Sums over the batches that pass a layer: [number of batches, means..., second moments...]."""

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer
        mean = layer.running_mean
        assert mean is not None  # _layers takes no other
        dtype = torch.float32 if mean.device.type == "mps" else torch.float64
        self.sums = torch.zeros(1 + 2 * mean.numel(), dtype=dtype, device=mean.device)
        self.handle = layer.register_forward_pre_hook(self._add)

    def _add(self, layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0]
        if x.numel() == 0:
            return
        var, mean = torch.var_mean(x.float(), dim=[d for d in range(x.ndim) if d != 1], correction=0)
        mean, var = mean.to(self.sums.dtype), var.to(self.sums.dtype)
        self.sums += torch.cat([self.sums.new_ones(1), mean, var + mean**2])


@torch.no_grad()
def _write(moments: list[_Moments]) -> None:
    """Average over ranks and give the layers their statistics."""
    sums = torch.cat([moment.sums for moment in moments])
    if comm.get_world_size() > 1:
        dist.all_reduce(sums)
    for moment, own in zip(moments, torch.split(sums, [m.sums.numel() for m in moments]), strict=True):
        layer, count = moment.layer, own[0]
        if count == 0 or layer.running_mean is None or layer.running_var is None:
            continue  # no batch reached this layer
        mean, second = (own[1:] / count).chunk(2)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_((second - mean**2).clamp_(min=0))


def _layers(model: torch.nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None]


def _uncompiled(model: torch.nn.Module) -> AbstractContextManager[Any]:
    """A context in which compiled parts of a model run uncompiled, for compiled code may pass by the hooks."""
    compiled = any(m._compiled_call_impl is not None or hasattr(m, "_orig_mod") for m in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
