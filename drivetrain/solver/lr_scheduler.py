"""Learning-rate schedulers for PyTorch optimizers, and how a config chooses one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from drivetrain.errors import ConfigError, did_you_mean

from .length import parse_length
from .schedules import Constant, Cosine, MultiStep, OneCycle, Poly, Schedule, Warmup, step_with_fixed_gamma

__all__ = ["LRMultiplier", "WarmupReduceLROnPlateau", "build_lr_scheduler", "build_schedule"]

_NAMES = (
    "WarmupMultiStepLR",
    "WarmupCosineLR",
    "WarmupStepWithFixedGammaLR",
    "WarmupPolyLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
)
_PLATEAU_COUNTERS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class LRMultiplier(LRScheduler):
    """Sets each parameter group's rate to its base rate times a schedule.

    ``step()`` is called after every iteration. The rate is computed from the iteration number alone, so loading
    the state needs nothing else and schedules may be changed between runs.

    Args:
        optimizer: its groups' ``lr`` (or ``initial_lr``, where there is one) are the base rates.
        multiplier: a function of progress in [0, 1].
        max_iter: iterations of the whole training; later ones keep the last value.
        last_iter: the last iteration done, -1 at the start.
    """

    def __init__(self, optimizer: Optimizer, multiplier: Schedule, max_iter: int, last_iter: int = -1) -> None:
        """Set the rates of the iteration after ``last_iter``; raises ConfigError if ``max_iter`` is below 1."""
        if max_iter < 1:
            raise ConfigError(f"a schedule needs at least 1 iteration, received max_iter={max_iter}")
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group at the current iteration."""
        factor = self._multiplier(min(self.last_epoch / self._max_iter, 1.0))
        return [base * factor for base in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Go to the next iteration (or to iteration ``epoch``) and set its rates."""
        # Replaces the base class's step, whose order checks and warnings cost more than the work itself.
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._step_count += 1
        self._set(self.get_lr())

    def state_dict(self) -> dict[str, Any]:
        """The iteration, which is all there is to save."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to the saved iteration, also of a WarmupReduceLROnPlateau, and set its rates."""
        self.last_epoch = int(state_dict.get("iteration", state_dict["last_epoch"]))
        self._set(self.get_lr())

    def _set(self, rates: list[float | Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = rates


class WarmupReduceLROnPlateau(ReduceLROnPlateau):
    """PyTorch's ReduceLROnPlateau behind a warm-up.

    ``step_iteration()`` is called after every iteration and does the warm-up; ``step(metric)`` after every
    evaluation. Results that arrive during the warm-up are not held against the model: the best one counts, but
    none lowers the rate.

    Args:
        optimizer: its groups' rates are those after the warm-up.
        warmup: a function of warm-up progress in [0, 1).
        warmup_iters: length of the warm-up.
        options: as ReduceLROnPlateau.
    """

    def __init__(self, optimizer: Optimizer, warmup: Schedule, warmup_iters: int, **options: Any) -> None:
        """Set the rates of the first iteration."""
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        super().__init__(optimizer, **options)
        self._warmup = warmup
        self._warmup_iters = warmup_iters
        self._iteration = 0
        if warmup_iters > 0:
            self._warm_up()

    def step_iteration(self) -> None:
        """Go to the next iteration."""
        self._iteration += 1
        if self._iteration <= self._warmup_iters:
            self._warm_up()

    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take an evaluation result into account; lower the rates after too many without progress."""
        if self._iteration >= self._warmup_iters:
            super().step(metrics, epoch)
            return
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(float(metrics), self.best):  # type: ignore[no-untyped-call]
            self.best = float(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Plain values; the rates themselves are in the optimizer's state."""
        return {"iteration": self._iteration, **{key: getattr(self, key) for key in _PLATEAU_COUNTERS}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the counters; the optimizer's state brings the rates. Of an LRMultiplier, the iteration is taken."""
        self._iteration = int(state_dict.get("iteration", state_dict["last_epoch"]))
        if "iteration" in state_dict:
            for key in _PLATEAU_COUNTERS:
                setattr(self, key, state_dict[key])
        if self._iteration < self._warmup_iters:
            self._warm_up()
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _warm_up(self) -> None:
        done = self._iteration >= self._warmup_iters
        factor = 1.0 if done else self._warmup(self._iteration / self._warmup_iters)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def build_lr_scheduler(cfg: Any, optimizer: Optimizer) -> LRScheduler:
    """The scheduler that ``cfg.SOLVER.LR_SCHEDULER_NAME`` names.

    Args:
        cfg: a config whose lengths are iterations (``resolve_lengths`` turns epochs into them).
        optimizer: what it drives.

    Returns:
        :class:`LRMultiplier`, or :class:`WarmupReduceLROnPlateau` for ``ReduceLROnPlateau``.

    Raises:
        ConfigError: the name or a number of the schedule is wrong.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "ReduceLROnPlateau":
        return LRMultiplier(optimizer, build_schedule(cfg), _max_iter(solver))
    if not 0 < solver.GAMMA < 1:
        raise ConfigError(f"SOLVER.GAMMA must be between 0 and 1 for ReduceLROnPlateau, received {solver.GAMMA}")
    warmup = Warmup(Constant(), solver.WARMUP_FACTOR, 1.0, solver.WARMUP_METHOD)
    return WarmupReduceLROnPlateau(
        optimizer,
        warmup,
        parse_length(solver.WARMUP_ITERS, name="SOLVER.WARMUP_ITERS"),
        mode=solver.PLATEAU.MODE,
        factor=solver.GAMMA,
        patience=solver.PLATEAU.PATIENCE,
    )


def build_schedule(cfg: Any) -> Schedule:
    """The schedule that ``cfg.SOLVER`` describes, as a function of progress.

    ``OneCycleLR`` has its own rise (over the first 0.3, from 1/25 of the rate) and ignores the ``WARMUP_*`` keys;
    ``WarmupPolyLR`` is multiplied by the warm-up, as in DeepLab, where the others begin after it.

    Raises:
        ConfigError: unknown name, ``ReduceLROnPlateau`` (which is no function of progress), steps that do not
            increase, or ``BASE_LR_END`` above ``BASE_LR``.
    """
    solver = cfg.SOLVER
    name, max_iter = solver.LR_SCHEDULER_NAME, _max_iter(solver)
    if name == "OneCycleLR":
        return OneCycle(end=_end_factor(solver))
    length = min(parse_length(solver.WARMUP_ITERS, name="SOLVER.WARMUP_ITERS") / max_iter, 1.0)
    warmup = (solver.WARMUP_FACTOR, length, solver.WARMUP_METHOD)
    if name == "WarmupPolyLR":
        return Poly(solver.POLY_LR_POWER, solver.POLY_LR_CONSTANT_ENDING, *warmup)
    if name == "WarmupMultiStepLR":
        schedule: Schedule = MultiStep(tuple(step / max_iter for step in _steps(solver, max_iter)), solver.GAMMA)
    elif name == "WarmupCosineLR":
        schedule = Cosine(1.0, _end_factor(solver))
    elif name == "WarmupStepWithFixedGammaLR":
        schedule = step_with_fixed_gamma(solver.GAMMA, solver.NUM_DECAYS)
    else:
        hint = did_you_mean(name, _NAMES)
        raise ConfigError(f"SOLVER.LR_SCHEDULER_NAME must be one of {', '.join(_NAMES)}, received {name!r}{hint}")
    return Warmup(schedule, *warmup, solver.RESCALE_INTERVAL)


def _max_iter(solver: Any) -> int:
    max_iter = parse_length(solver.MAX_ITER, name="SOLVER.MAX_ITER")
    if max_iter < 1:
        raise ConfigError(f"SOLVER.MAX_ITER must be at least 1, received {solver.MAX_ITER!r}")
    return max_iter


def _steps(solver: Any, max_iter: int) -> tuple[int, ...]:
    """The steps within the training."""
    given = (solver.STEPS,) if isinstance(solver.STEPS, int) else tuple(solver.STEPS)
    if any(later <= earlier for earlier, later in pairwise(given)):
        raise ConfigError(f"SOLVER.STEPS must be increasing iterations, received {given}")
    steps = tuple(step for step in given if step <= max_iter)
    if len(steps) < len(given):
        late = ", ".join(map(str, given[len(steps) :]))
        logging.getLogger(__name__).warning(
            "SOLVER.STEPS after SOLVER.MAX_ITER (%d) have no effect: %s", max_iter, late
        )
    return steps


def _end_factor(solver: Any) -> float:
    """The final rate as a fraction of the base rate."""
    end, base = solver.BASE_LR_END, solver.BASE_LR
    if not 0 <= end <= base:
        raise ConfigError(f"SOLVER.BASE_LR_END must be between 0 and SOLVER.BASE_LR ({base}), received {end}")
    return float(end / base) if base else 0.0
