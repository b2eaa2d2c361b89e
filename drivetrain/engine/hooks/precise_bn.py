"""True statistics for BatchNorm in place of moving averages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
            TrainingError: the loader gave no batch, on no rank.
        """
        model = unwrap_model(self._model)
        layers = _layers(model)
        if not layers:
            logger.warning("PreciseBN has nothing to do: the model has no BatchNorm layer in training mode")
            return
        logger.info("Computing the statistics of %d BatchNorm layers from %d batches", len(layers), self._num_iter)
        moments = [_Moments(layer) for layer in layers]
        with undisturbed(model, buffers=True), torch.no_grad(), EventStorage(), _uncompiled(model), _watched(moments):
            batches = 0
            for batch in islice(self._data_loader, self._num_iter):
                model(batch)
                _take(moments)
                batches += 1
        if not any(comm.all_gather(batches)):  # a rank may have none of them
            raise TrainingError("the data loader of PreciseBN gave no batch: give one that can be iterated again")
        _write(moments)


class _Moments:
    """Sums over the batches that pass a layer: their number, means and second moments.

    The layer computes the mean and the variance of a batch anyway. With a momentum of 1 it leaves them in its buffers,
    from where they are taken after a forward pass, for all layers together, or before the layer is called again.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        self.layer = layer
        mean, var = layer.running_mean, layer.running_var
        assert mean is not None and var is not None  # _layers takes no other
        self.buffers = mean, var
        dtype = torch.float32 if mean.device.type == "mps" else torch.float64
        self.count = 0
        self.means, self.seconds = torch.zeros(2, mean.numel(), dtype=dtype, device=mean.device)
        self.samples = 0  # per channel, in the batch whose statistics the buffers hold; 0 if they were taken
        # Layers of other kinds may leave something else there, and 16 bits hold too little.
        plain = type(layer).forward is _BatchNorm.forward and layer.track_running_stats
        self._leaves_statistics = plain and mean.dtype in (torch.float32, torch.float64)

    def before(self, layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """Take what the last call left in the buffers, and note what this one will."""
        x = inputs[0]
        if self.samples:
            _take([self])
        if x.numel() == 0:
            return
        self.count += 1
        if self._leaves_statistics and layer.training and layer.running_mean is self.buffers[0]:
            self.samples = x.numel() // x.shape[1]
        else:
            var, mean = torch.var_mean(x.float(), dim=[d for d in range(x.ndim) if d != 1], correction=0)
            self.means += mean
            self.seconds += var + mean.to(self.means.dtype) ** 2


@contextmanager
def _watched(moments: list[_Moments]) -> Iterator[None]:
    """Make layers leave the statistics of each batch in their buffers, whose content is lost."""
    layers = [moment.layer for moment in moments]
    momenta = [layer.momentum for layer in layers]
    handles = [layer.register_forward_pre_hook(moment.before) for layer, moment in zip(layers, moments, strict=True)]
    try:
        for moment in moments:
            moment.layer.momentum = 1.0
            for buffer in moment.buffers:
                torch.nan_to_num_(buffer, posinf=0, neginf=0)  # the next value is 1 * the batch's + 0 * this one
        yield
    finally:
        for layer, momentum, handle in zip(layers, momenta, handles, strict=True):
            layer.momentum = momentum
            handle.remove()


def _take(moments: list[_Moments]) -> None:
    """Add the statistics that the layers' buffers hold to the sums, all layers at once."""
    ready = [moment for moment in moments if moment.samples]
    if not ready:
        return
    sizes = [len(moment.means) for moment in ready]
    dtype = ready[0].means.dtype
    mean, var = (torch.cat([moment.buffers[i] for moment in ready]).to(dtype) for i in (0, 1))
    biased = [1 - 1 / moment.samples for moment in ready]  # the buffers hold the unbiased variance
    torch._foreach_mul_(torch.split(var, sizes), biased)
    torch._foreach_add_([moment.means for moment in ready], torch.split(mean, sizes))
    torch._foreach_add_([moment.seconds for moment in ready], torch.split(var + mean**2, sizes))
    for moment in ready:
        moment.samples = 0


@torch.no_grad()
def _write(moments: list[_Moments]) -> None:
    """Average over ranks and give the layers their statistics."""
    sums = torch.cat([torch.cat([m.means.new_tensor([m.count]), m.means, m.seconds]) for m in moments])
    if comm.get_world_size() > 1:
        dist.all_reduce(sums)
    for moment, own in zip(moments, torch.split(sums, [1 + 2 * len(m.means) for m in moments]), strict=True):
        count = own[0]
        if count == 0:
            continue  # no batch reached this layer
        mean, second = (own[1:] / count).chunk(2)
        for buffer, value in zip(moment.buffers, (mean, (second - mean**2).clamp_(min=0)), strict=True):
            buffer.copy_(value)


def _layers(model: torch.nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None]


def _uncompiled(model: torch.nn.Module) -> AbstractContextManager[Any]:
    """A context in which compiled parts of a model run uncompiled, for compiled code may pass by the hooks."""
    compiled = any(m._compiled_call_impl is not None or hasattr(m, "_orig_mod") for m in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
