"""Keeping steps with a loss or a gradient that is not finite away from the weights.

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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch

from drivetrain.errors import NonFiniteLossError, TrainingError

if TYPE_CHECKING:
    from .buffers import KeptBuffers

__all__ = ["FiniteGuard", "NonFiniteCheck", "NonFinitePolicy", "Rewind", "StepStart"]

NonFinitePolicy = Literal["raise", "skip", "rewind"]
Clip = Callable[[torch.optim.Optimizer], None]
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
        memory: so many of the latest steps' starts are remembered; the last one alone where the host judges each
            step before the next.
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
        at_once = not distributed and (device is None or device.type == "cpu")
        self._starts: deque[StepStart] = deque(maxlen=1 if at_once else max(memory, 1))
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

    def remember(self, iteration: int, loader: Any) -> None:
        """Remember what a step begins with, for whoever may want to make it again.

        Args:
            iteration: which step.
            loader: whose ``position``, if it has one, is the number of the step's first batch.
        """
        device_rng = None if self._cuda is None else torch.cuda.get_rng_state(self._cuda)
        position = getattr(loader, "position", None)
        self._starts.append(StepStart(iteration, position, torch.get_rng_state(), device_rng))

    def start_of(self, iteration: int) -> StepStart | None:
        """What a step began with; None when it is not remembered."""
        return next((start for start in reversed(self._starts) if start.iteration == iteration), None)

    @property
    def watching(self) -> bool:
        """Whether losses are judged on the device, or with other ranks."""
        return self._count is not None

    def judge(self, total: torch.Tensor, iteration: int) -> tuple[torch.Tensor | None, bool]:
        """The gradient to start ``backward`` with (None: 1), and False for a loss that is known not to be finite."""
        if total.is_cpu and not self._distributed:  # reading it waits for nobody
            return None, math.isfinite(total.item())
        return self.seed(total, iteration), True

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

    def step(self, optimizer: torch.optim.Optimizer, iteration: int, clip: Clip | None = None) -> bool:
        """Clip gradients and make the optimizer step, unless a gradient is bad.

        On a device, an optimizer that cannot leave the step out there costs one wait for it.

        Returns:
            False for a bad step that is known by now.
        """
        grads = [g for group in optimizer.param_groups for p in group["params"] if (g := p.grad) is not None]
        if self._count is None:
            if self._check.now(grads):
                return False
        elif (found := self._check(grads)) is not None:
            bad = self._note_gradients(found, iteration)
            if not bad.is_cpu and getattr(optimizer, "_step_supports_amp_scaling", False):
                _clip_and_step(optimizer, clip, bad.float())
                return True
            if bool(bad):
                return True  # `verdict` tells, on all ranks alike
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

    def keep_buffers(self, model: torch.nn.Module) -> None:
        """With ``"skip"``, remember a model's buffers at the beginning of a step, which may have to put them back."""
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


def _clip_and_step(optimizer: Any, clip: Clip | None, found_inf: torch.Tensor | None = None) -> None:
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


class NonFiniteCheck:
    """Says whether gradients have an infinite or NaN element; it keeps what the check needs from step to step.

    The check is that of ``torch.amp.GradScaler``: one pass and, on a GPU, one kernel for all gradients.
    """

    def __init__(self) -> None:
        self._kept: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}  # of each device a 0 and a 1
        self._host = torch.zeros(()), torch.ones(())

    def __call__(self, grads: list[torch.Tensor]) -> torch.Tensor | None:
        """A one-element tensor on the gradients' device, above 0 if any is not finite; None without gradients."""
        if not grads:
            return None
        device = grads[0].device
        if device not in self._kept:
            self._kept[device] = torch.zeros((), device=device), torch.ones((), device=device)
        zero, one = self._kept[device]
        return _mark(grads, zero.clone(), one)

    def now(self, grads: list[torch.Tensor]) -> bool:
        """Whether any is not finite, read at once: on a CPU that costs nothing."""
        zero, one = self._host
        if not (grads and _mark(grads, zero, one).item()):
            return False
        zero.zero_()  # it has been marked
        return True


def _mark(grads: list[torch.Tensor], found: torch.Tensor, one: torch.Tensor) -> torch.Tensor:
    """Set ``found`` to 1 if a gradient is not finite."""
    try:
        torch._amp_foreach_non_finite_check_and_unscale_(grads, found, one)
    except (RuntimeError, NotImplementedError):  # sparse, on several devices, or on one that lacks it
        values = (g.coalesce().values() if g.is_sparse else g for g in grads)
        found.copy_(torch.stack([(~torch.isfinite(v).all()).float().to(found.device) for v in values]).amax())
    return found
