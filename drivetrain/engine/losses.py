"""A step's losses: summed, averaged over an iteration's batches, recorded; and the gradients they left behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from drivetrain.errors import TrainingError
from drivetrain.events.storage import EventStorage

from .finite import FiniteGuard

if TYPE_CHECKING:
    from drivetrain.events.reduction import RankMetrics

__all__ = ["BadSteps", "LossRecorder", "clear_gradients", "mean_losses", "sum_losses", "world_size"]


class BadSteps(NamedTuple):
    """Steps found bad when the device was read: how many, the first one's iteration and losses."""

    steps: int
    iteration: int
    losses: dict[str, float]


class LossRecorder:
    """Puts a step's losses into the storage; with several ranks their means, by one collective per period.

    Args:
        guard: learns of bad steps when the device is read.
        world_size: number of ranks.
    """

    def __init__(self, guard: FiniteGuard, world_size: int) -> None:
        self._guard = guard
        self._world_size = world_size
        self._ranks: RankMetrics | None = None
        self._executor: ThreadPoolExecutor | None = None

    @property
    def executor(self) -> ThreadPoolExecutor:
        """A single thread, made when first asked for, for trainers that write metrics from a thread."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
        return self._executor

    @property
    def pending(self) -> bool:
        """Whether :meth:`read_device` has something to learn."""
        return self._guard.watching or self._ranks is not None

    def write(
        self, storage: EventStorage, iteration: int, losses: Mapping[str, torch.Tensor], data_time: float
    ) -> None:
        """Record ``losses``, ``total_loss``, ``data_time`` (s, maximum over ranks) and ``rank_data_time``."""
        if self._world_size > 1:
            storage.put_scalar("rank_data_time", data_time, cur_iter=iteration)
            self._ranks_of(storage).add(iteration, losses, data_time)
            return
        scalars: dict[str, Any] = {"rank_data_time": data_time, "data_time": data_time, "total_loss": 0.0}
        total: Any = 0.0
        for name, value in losses.items():
            # A float where reading costs nothing, else the tensor without its graph.
            scalars[name] = read = value.item() if value.is_cpu else value.detach()
            total += read
        if type(total) is float and not math.isfinite(total):  # of a `run_step` that does not judge losses itself
            self._guard.refuse(1, iteration, {name: scalars[name] for name in losses})
        if "total_loss" not in losses:
            scalars["total_loss"] = total
        storage.record(scalars, cur_iter=iteration)

    def _ranks_of(self, storage: EventStorage) -> RankMetrics:
        if self._ranks is None or self._ranks.storage is not storage:
            from drivetrain.events.reduction import RankMetrics  # only trainings with several ranks need it

            self._ranks = RankMetrics(storage)
        return self._ranks

    def read_device(self, storage: EventStorage, iteration: int, stop: bool) -> tuple[bool, BadSteps | None]:
        """Learn what happened on devices and other ranks since the last time: one collective, one copy.

        Args:
            storage: gets the means over ranks.
            iteration: the current iteration.
            stop: whether this rank asks to end the training.

        Returns:
            Whether any rank asks to, and what bad steps there were; the same on all ranks.
        """
        verdict = self._guard.verdict()
        flags = [0.0 if verdict is None else float(verdict), float(stop)]
        bad, stops = flags if self._ranks is None else self._ranks.reduce(flags)
        if not bad:
            return bool(stops), None
        first = self._guard.first_bad_iteration(default=iteration)
        histories = storage.histories().items()
        losses = {n: v for n, h in histories for v, i in h.values() if i == first and "loss" in n}
        # Every rank counted the steps that DDP brought to all of them.
        return bool(stops), BadSteps(max(1, round(bad / self._world_size)), first, losses)

    def forget(self) -> None:
        """Drop what was not exchanged with other ranks, for a training that goes back."""
        self._ranks = None


def sum_losses(losses: Mapping[str, torch.Tensor], iteration: int) -> torch.Tensor:
    """The sum of all losses, a scalar.

    Raises:
        TrainingError: they are no tensors.
    """
    total = None
    for loss in losses.values():
        total = loss if total is None else total + loss
    if not isinstance(total, torch.Tensor):
        raise TrainingError(
            f"the model returned {losses!r} at iteration {iteration}: in training mode it has to return a dict of "
            "scalar loss tensors"
        )
    return total


def mean_losses(
    sums: Mapping[str, torch.Tensor], losses: Mapping[str, torch.Tensor], count: int
) -> dict[str, torch.Tensor]:
    """``sums`` with a ``1 / count`` share of ``losses`` added; a loss that is missing in one of them counts as zero."""
    total = dict(sums)
    for name, value in losses.items():
        share = value.detach() / count
        total[name] = total[name] + share if name in total else share
    return total


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """``optimizer.zero_grad()``, without the label for profilers that torch's own adds: it takes twice the time."""
    if getattr(optimizer.zero_grad, "__func__", None) is not torch.optim.Optimizer.zero_grad:
        optimizer.zero_grad()
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def world_size() -> int:
    """Number of ranks, without importing more than torch."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1
