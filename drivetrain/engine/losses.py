"""What becomes of a step's losses: recorded, averaged over ranks, and kept from doing harm when not finite.

A loss that is not finite is found without waiting for the device, in one of two ways:

* One process with the loss on the CPU: reading it is free, a bad loss is seen before ``backward``.
* Otherwise ``backward`` starts with a gradient that is NaN where the loss is not finite. DDP's own reduction carries
  it to every rank, the gradients are judged on the device, and an optimizer that takes ``found_inf`` (torch's fused
  ones) leaves out the update there. The host learns of it when metrics are read.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch

from drivetrain.errors import NonFiniteLossError, TrainingError
from drivetrain.events.storage import EventStorage

from .precision import NonFiniteCheck

if TYPE_CHECKING:
    from drivetrain.events.reduction import RankMetrics

    from .buffers import KeptBuffers

__all__ = [
    "BadSteps",
    "FiniteGuard",
    "LossRecorder",
    "NonFinitePolicy",
    "Rewind",
    "StepStart",
    "mean_losses",
    "sum_losses",
    "world_size",
]

NonFinitePolicy = Literal["raise", "skip", "rewind"]
logger = logging.getLogger(__name__)


class StepStart(NamedTuple):
    """What the step of an iteration began with: enough to make it again.

    Attributes:
        position: the number of its first batch, of a loader that counts them in ``position``; else None.
        rng: the state of PyTorch's CPU generator.
        device_rng: the state of the model's CUDA device's generator; None elsewhere.
    """

    iteration: int
    position: int | None
    rng: torch.Tensor
    device_rng: torch.Tensor | None


class Rewind(BaseException):
    """Leaves the loop for the last checkpoint; ``error`` is what to raise where there is none to go back to."""

    def __init__(self, error: NonFiniteLossError) -> None:
        self.error = error


class FiniteGuard:
    """Keeps steps with a non-finite loss or gradient away from weights, optimizer state and (``"skip"``) buffers.

    Args:
        policy: ``"raise"`` ends the training with :class:`NonFiniteLossError`; ``"skip"`` leaves the step out;
            ``"rewind"`` goes back to the last checkpoint and on with the data after the bad step's.
        budget: with ``"skip"``, more steps left out than this end the training all the same.
        distributed: whether other ranks have to agree.
        memory: so many of the latest steps' starts are remembered.
        device: the model's, whose generator is remembered too if it is a CUDA device.
    """

    def __init__(
        self,
        policy: NonFinitePolicy = "raise",
        *,
        budget: int = 100,
        distributed: bool = False,
        memory: int = 20,
        device: torch.device | None = None,
    ) -> None:
        if policy not in get_args(NonFinitePolicy):
            raise TrainingError(f"non_finite={policy!r} is not a policy: use 'raise', 'skip' or 'rewind'")
        self.policy = policy
        self.budget = budget
        self.skipped = 0
        self.rewinds = (-1, 0)  # the iteration last gone back to, and how often in a row
        self._distributed = distributed
        self._cuda = device if device is not None and device.type == "cuda" else None
        self._starts: deque[StepStart] = deque(maxlen=max(memory, 1))
        self._buffers: KeptBuffers | None = None
        self._check = NonFiniteCheck()
        self.reset()

    def reset(self) -> None:
        """Forget what was found on the device so far."""
        # On the device, since the last `verdict`: steps with bad gradients (which DDP brings to every rank) and with
        # a bad loss of this rank; and 1 + the first iteration with either.
        self._count: torch.Tensor | None = None
        self._lost: torch.Tensor | None = None
        self._bad_loss: torch.Tensor | None = None
        self._bad_gradient: torch.Tensor | None = None

    # The step

    def begin(self, iteration: int, loader: Any, model: torch.nn.Module) -> None:
        """Remember what a step begins with; every step of a trainer starts here."""
        device_rng = None if self._cuda is None else torch.cuda.get_rng_state(self._cuda)
        position = getattr(loader, "position", None)
        self._starts.append(StepStart(iteration, position, torch.get_rng_state(), device_rng))
        if self.policy == "skip":
            self._keep_buffers(model)

    def start_of(self, iteration: int) -> StepStart | None:
        """What a step began with; None when it is not remembered (any more)."""
        return next((start for start in reversed(self._starts) if start.iteration == iteration), None)

    @property
    def watching(self) -> bool:
        """Whether losses are judged on the device, or with other ranks."""
        return self._count is not None

    def on_host(self, total: torch.Tensor) -> bool:
        """Whether this loss can be judged by reading it now."""
        return not self._distributed and total.device.type == "cpu"

    def seed(self, total: torch.Tensor, iteration: int) -> torch.Tensor:
        """The gradient to start ``backward`` with, made on the device: 1 for a finite loss, else NaN.

        Unless steps are skipped, it is NaN after a bad step too: nothing changes any more until the host has learned
        of it.
        """
        if self._count is None:
            zeros = torch.zeros(4, device=total.device).unbind()
            self._count, self._lost, self._bad_loss, self._bad_gradient = zeros
        bad = ~torch.isfinite(total.detach())
        self._lost = bad if self._lost is None else self._lost + bad
        self._bad_loss = _first(self._bad_loss, bad, iteration)
        stopped = bad if self.policy == "skip" else bad | (self._bad_loss > 0)
        return torch.where(stopped, math.nan, 1.0).to(total.dtype)

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        iteration: int,
        clip: Callable[[torch.optim.Optimizer], None] | None = None,
    ) -> bool:
        """Clip gradients and make the optimizer step, unless a gradient is bad.

        On a device, an optimizer that cannot leave the step out there costs one wait for it.

        Returns:
            False for a bad step that is known by now.
        """
        found = self._check([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])
        if found is not None and self._count is not None:
            bad = self._note_gradients(found, iteration)
            if bad.device.type != "cpu" and getattr(optimizer, "_step_supports_amp_scaling", False):
                _clip_and_step(optimizer, clip, bad.float())
                return True
            if bool(bad):
                return True  # `verdict` tells, on all ranks alike
        elif found is not None and found.item():
            return False
        _clip_and_step(optimizer, clip)
        return True

    def _note_gradients(self, found: torch.Tensor, iteration: int) -> torch.Tensor:
        """Count a step with bad gradients; whether to leave this step out."""
        assert self._count is not None
        bad = found.to(self._count.device) > 0
        self._count = self._count + bad
        self._bad_gradient = _first(self._bad_gradient, bad, iteration)
        self.put_back_buffers(bad)
        return bad if self.policy == "skip" else bad | (self._bad_gradient > 0)

    # Buffers: a forward pass that ends in a bad loss has moved running statistics, for good if they became NaN

    def _keep_buffers(self, model: torch.nn.Module) -> None:
        if self._buffers is None or self._buffers.model is not model:
            from .buffers import KeptBuffers  # only trainings that skip steps need it

            self._buffers = KeptBuffers(model)
        self._buffers.keep()

    def put_back_buffers(self, where: torch.Tensor | None = None) -> None:
        """With ``"skip"``, give buffers the values they had before the step (where ``where`` holds, on the device)."""
        if self._buffers is not None:
            self._buffers.put_back(where)

    # What is done about it

    def verdict(self) -> torch.Tensor | None:
        """Bad steps since the last call, as a one-element tensor on the device; None when nothing was watched."""
        if self._count is None or self._lost is None:
            return None
        # A gradient scaler keeps bad steps out by itself; then losses alone tell.
        count = torch.where(self._count == 0, self._lost, self._count)
        self._count = self._lost = torch.zeros_like(self._count)
        return count

    def first_bad_iteration(self, default: int) -> int:
        """The first iteration found bad on the device; ``default`` when it was seen on another rank only."""
        firsts = [int(f.item()) for f in (self._bad_loss, self._bad_gradient) if f is not None]
        return min((f - 1 for f in firsts if f), default=default)

    def has_bad_loss(self) -> bool:
        """Whether it was a loss of this rank that was found bad on the device, not its gradient or another rank's."""
        return self._bad_loss is not None and bool(self._bad_loss)

    def refuse(self, count: int, iteration: int, losses: Mapping[str, float], saved: str = "") -> None:
        """Act on ``count`` bad steps, the first at ``iteration``, as the policy says.

        Args:
            losses: of that iteration.
            saved: where the batch can be looked at, for the message.

        Raises:
            NonFiniteLossError: the policy is ``"raise"``, or more than ``budget`` steps were left out.
            Rewind: the policy is ``"rewind"``.
        """
        shown = ", ".join(f"{name}={value:g}" for name, value in losses.items())
        what = f"loss or gradient became infinite or NaN at iteration {iteration} ({shown})"
        fix = f"lower the learning rate, clip gradients, or look at that batch{saved}"
        if self.policy == "skip":
            self.skipped += count
            self._bad_loss = self._bad_gradient = None if self._count is None else torch.zeros_like(self._count)
            if self.skipped <= self.budget:
                logger.warning("The %s: step left out (%d of at most %d)%s", what, self.skipped, self.budget, saved)
                return
            raise NonFiniteLossError(
                f"{self.skipped} steps had an infinite or NaN loss or gradient, the last at iteration {iteration} "
                f"({shown}), more than the {self.budget} that may be left out: {fix}"
            )
        error = NonFiniteLossError(f"{what}; weights and optimizer state are as before that step: {fix}")
        if self.policy == "rewind":
            raise Rewind(error)
        raise error

    def state_dict(self) -> dict[str, Any]:
        """Steps left out so far."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the count."""
        self.skipped = int(state["skipped"])


def _first(known: torch.Tensor | None, bad: torch.Tensor, iteration: int) -> torch.Tensor:
    """1 + the first bad iteration, 0 for none: what was known, or else this one if it is bad."""
    assert known is not None
    return torch.where(bad & (known == 0), float(iteration + 1), known)


def _clip_and_step(
    optimizer: Any, clip: Callable[[torch.optim.Optimizer], None] | None, found_inf: torch.Tensor | None = None
) -> None:
    """Clip and step; with ``found_inf`` (1 on the device) the optimizer itself leaves the step out."""
    if clip is not None:
        clip(optimizer)
    if found_inf is None:
        optimizer.step()
        return
    optimizer.found_inf = found_inf
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf


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
        storage.put_scalar("rank_data_time", data_time, cur_iter=iteration)
        if self._world_size > 1:
            self._ranks_of(storage).add(iteration, losses, data_time)
            return
        storage.put_scalar("data_time", data_time, cur_iter=iteration)
        values = {name: _read_if_free(value) for name, value in losses.items()}
        total = sum(values.values())
        if type(total) is float and not math.isfinite(total) and self._guard.start_of(iteration) is None:
            self._guard.refuse(1, iteration, values)  # of a `run_step` that does not judge losses itself
        storage.put_scalar("total_loss", total, cur_iter=iteration)
        for name, value in values.items():
            if len(values) > 1 or name != "total_loss":
                storage.put_scalar(name, value, cur_iter=iteration)

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
