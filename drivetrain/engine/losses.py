"""What becomes of a step's losses: recorded, averaged over ranks, and kept from doing harm when not finite.

A loss that is not finite is found without waiting for the device, in one of two ways:

* One process with the loss on the CPU: reading it is free, a bad loss is seen before ``backward``.
* Otherwise ``backward`` starts with a gradient that is NaN where the loss is not finite. DDP's own reduction carries
  the NaN to every rank, the gradients are judged on the device, and an optimizer that takes ``found_inf`` (every
  fused one of torch) leaves out the update there. The host learns of it when metrics are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import torch

from drivetrain.errors import NonFiniteLossError, TrainingError
from drivetrain.events.storage import EventStorage

if TYPE_CHECKING:
    from drivetrain.events.reduction import RankMetrics

__all__ = ["FiniteGuard", "LossRecorder", "NonFinitePolicy", "mean_losses", "sum_losses", "world_size"]

NonFinitePolicy = Literal["raise", "skip"]


class FiniteGuard:
    """Keeps steps with a non-finite loss or gradient away from weights and optimizer state.

    Args:
        policy: ``"raise"`` ends the training with :class:`NonFiniteLossError`; ``"skip"`` leaves the step out.
        skip_budget: with ``"skip"``, more steps left out than this end the training all the same.
        distributed: whether other ranks have to agree.
    """

    def __init__(self, policy: NonFinitePolicy = "raise", *, skip_budget: int = 100, distributed: bool = False) -> None:
        if policy not in ("raise", "skip"):
            raise TrainingError(f"non_finite={policy!r} is not a policy: use 'raise' or 'skip'")
        self.policy = policy
        self.skip_budget = skip_budget
        self.skipped = 0
        self._distributed = distributed
        # On the device: steps found bad since the last `verdict`, and 1 + the first iteration ever found bad.
        self._count: torch.Tensor | None = None
        self._first: torch.Tensor | None = None

    @property
    def watching(self) -> bool:
        """Whether losses are judged on the device, or with other ranks."""
        return self._count is not None

    def on_host(self, total: torch.Tensor) -> bool:
        """Whether this loss can be judged by reading it now."""
        return not self._distributed and total.device.type == "cpu"

    def admits(self, total: torch.Tensor, losses: Mapping[str, torch.Tensor], iteration: int) -> bool:
        """Judge a loss on the host, before ``backward``.

        Returns:
            True when it is finite; False when this step is to be left out.

        Raises:
            NonFiniteLossError: it is not finite and the policy is ``"raise"``, or the budget is spent.
        """
        if math.isfinite(total.item()):
            return True
        self.refuse(1, iteration, {name: value.item() for name, value in losses.items()})
        return False

    def seed(self, total: torch.Tensor, iteration: int) -> torch.Tensor:
        """The gradient to start ``backward`` with, made on the device: 1 for a finite loss, else NaN."""
        finite = torch.isfinite(total.detach())
        self._note(~finite, iteration)
        return torch.where(finite, 1.0, math.nan).to(total.dtype)

    def _note(self, bad: torch.Tensor, iteration: int) -> None:
        if self._count is None or self._first is None:
            self._count = torch.zeros((), device=bad.device)
            self._first = torch.zeros((), device=bad.device)
        self._count += bad
        self._first = torch.where(bad & (self._first == 0), float(iteration + 1), self._first)

    def step(self, optimizer: torch.optim.Optimizer, iteration: int) -> None:
        """Make the optimizer step unless a gradient is bad, or, with ``"raise"``, an earlier step was.

        An optimizer that cannot leave the step out on the device costs one wait for it.
        """
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if grads and self._first is not None and self._count is not None:
            norms = torch.stack([n.float().to(self._first.device) for n in torch._foreach_norm(grads)])
            bad = ~torch.isfinite(norms).all()
            # A bad loss was counted by `seed` on its own rank; its NaN gradients count on the ranks it spread to.
            self._note(bad & (self._first != iteration + 1), iteration)
            if self.policy == "raise":
                bad = bad | (self._first > 0)
            if bad.device.type != "cpu" and getattr(optimizer, "_step_supports_amp_scaling", False):
                self._step_on_device(optimizer, bad.float())
                return
            if bool(bad):
                return
        optimizer.step()

    @staticmethod
    def _step_on_device(optimizer: Any, found_inf: torch.Tensor) -> None:
        optimizer.found_inf = found_inf
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf

    def verdict(self) -> torch.Tensor | None:
        """Bad steps since the last call, as a one-element tensor on the device; None when nothing was watched."""
        if self._count is None:
            return None
        count, self._count = self._count, torch.zeros_like(self._count)
        return count

    def first_bad_iteration(self, default: int) -> int:
        """The first iteration found bad on the device; ``default`` when it was seen on another rank only."""
        first = 0 if self._first is None else int(self._first.item())
        return first - 1 if first else default

    def refuse(self, count: int, iteration: int, losses: Mapping[str, float]) -> None:
        """Account for ``count`` bad steps, the first at ``iteration``.

        Raises:
            NonFiniteLossError: the policy is ``"raise"``, or more than ``skip_budget`` steps were left out.
        """
        shown = ", ".join(f"{name}={value:g}" for name, value in losses.items())
        if self.policy == "raise":
            raise NonFiniteLossError(
                f"loss or gradient became infinite or NaN at iteration {iteration} ({shown}); weights and optimizer "
                "state are as before that step: lower the learning rate, clip gradients, or look at that batch"
            )
        self.skipped += count
        if self.skipped > self.skip_budget:
            raise NonFiniteLossError(
                f"{self.skipped} steps had an infinite or NaN loss or gradient, the last at iteration {iteration} "
                f"({shown}), more than the {self.skip_budget} that may be left out: lower the learning rate"
            )

    def state_dict(self) -> dict[str, Any]:
        """Steps left out so far."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the count of :meth:`state_dict`."""
        self.skipped = int(state["skipped"])


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
        storage.put_scalar("rank_data_time", data_time, cur_iter=iteration)
        if self._world_size > 1:
            self._ranks_of(storage).add(iteration, losses, data_time)
            return
        storage.put_scalar("data_time", data_time, cur_iter=iteration)
        values = {name: _read_if_free(value) for name, value in losses.items()}
        total = sum(values.values())
        if type(total) is float and not math.isfinite(total) and self._guard.policy == "raise":
            self._guard.refuse(1, iteration, values)
        storage.put_scalar("total_loss", total, cur_iter=iteration)
        for name, value in values.items():
            if len(values) > 1 or name != "total_loss":
                storage.put_scalar(name, value, cur_iter=iteration)

    def _ranks_of(self, storage: EventStorage) -> RankMetrics:
        if self._ranks is None or self._ranks.storage is not storage:
            from drivetrain.events.reduction import RankMetrics  # only trainings with several ranks need it

            self._ranks = RankMetrics(storage)
        return self._ranks

    def read_device(self, storage: EventStorage, iteration: int, stop: bool) -> bool:
        """Learn what happened on devices and other ranks since the last time: one collective, one copy.

        Args:
            storage: gets the means over ranks.
            iteration: the current iteration.
            stop: whether this rank asks to end the training.

        Returns:
            Whether any rank asks to.

        Raises:
            NonFiniteLossError: see :class:`FiniteGuard`; on all ranks alike.
        """
        verdict = self._guard.verdict()
        flags = [0.0 if verdict is None else float(verdict), float(stop)]
        bad, stops = flags if self._ranks is None else self._ranks.reduce(flags)
        if bad:
            first = self._guard.first_bad_iteration(default=iteration)
            histories = storage.histories().items()
            losses = {n: v for n, h in histories for v, i in h.values() if i == first and "loss" in n}
            self._guard.refuse(int(bad), first, losses)
        return bool(stops)


def sum_losses(losses: Mapping[str, torch.Tensor], iteration: int) -> torch.Tensor:
    """The sum of all losses, a scalar.

    Raises:
        TrainingError: they are no tensors.
    """
    total = next(iter(losses.values())) if len(losses) == 1 else sum(losses.values())
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


def world_size() -> int:
    """Number of ranks, without importing more than torch."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1


def _read_if_free(value: torch.Tensor) -> Any:
    """A float where reading costs nothing, else the tensor without its graph."""
    return value.item() if value.device.type == "cpu" else value.detach()
