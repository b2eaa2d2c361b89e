"""fvcore's parameter schedules: values over the progress of a training, from 0 to 1."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from drivetrain.errors import ConfigError
from drivetrain.solver.schedules import Constant, Cosine, Linear, Warmup

__all__ = [
    "ConstantParamScheduler",
    "CosineParamScheduler",
    "ExponentialParamScheduler",
    "LinearParamScheduler",
    "MultiStepParamScheduler",
    "ParamScheduler",
    "PolynomialDecayParamScheduler",
    "WarmupParamScheduler",
]


class ParamScheduler:
    """Base of schedules of one's own: ``__call__(where)``, with ``where`` from 0 to 1, gives the value."""

    WHERE_EPSILON = 1e-6

    def __call__(self, where: float) -> float:
        """The value at a progress; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(where)")


class ConstantParamScheduler(Constant):
    """The same value throughout."""


class LinearParamScheduler(Linear):
    """A straight line from ``start_value`` to ``end_value``."""

    def __init__(self, start_value: float, end_value: float) -> None:
        super().__init__(start_value, end_value)


class CosineParamScheduler(Cosine):
    """Half a cosine wave from ``start_value`` to ``end_value``."""

    def __init__(self, start_value: float, end_value: float) -> None:
        super().__init__(start_value, end_value)


@dataclass(frozen=True)
class ExponentialParamScheduler(ParamScheduler):
    """``start_value`` multiplied by ``decay`` over the whole training, evenly."""

    start_value: float
    decay: float

    def __call__(self, where: float) -> float:
        """The value at a progress."""
        return float(self.start_value * self.decay**where)


@dataclass(frozen=True)
class PolynomialDecayParamScheduler(ParamScheduler):
    """``base_value * (1 - progress) ** power``."""

    base_value: float
    power: float

    def __call__(self, where: float) -> float:
        """The value at a progress."""
        return float(self.base_value * (1 - where) ** self.power)


class MultiStepParamScheduler(ParamScheduler):
    """A value for each part of the training.

    Args:
        values: of the parts.
        num_updates: the length that ``milestones`` are counted in; by default, the last of the milestones.
        milestones: where the next value begins; by default, parts of equal length.

    Raises:
        ConfigError: there is not one milestone less than there are values, or they do not rise.
    """

    def __init__(
        self, values: Sequence[float], num_updates: int | None = None, milestones: Sequence[int] | None = None
    ) -> None:
        parts = len(values)
        if milestones is None:
            limits = [part / parts for part in range(1, parts)]
        else:
            ends = list(milestones)
            if num_updates is None:
                num_updates = ends.pop()
            limits = [end / num_updates for end in ends]
        if len(limits) != parts - 1 or limits != sorted(limits):
            raise ConfigError(
                f"MultiStepParamScheduler: {parts} values need {parts - 1} rising milestones below num_updates, "
                f"received {list(milestones or ())} and {num_updates}"
            )
        self.values, self.limits = list(values), limits

    def __call__(self, where: float) -> float:
        """The value at a progress."""
        return self.values[bisect_right(self.limits, where + 1e-12)]


class WarmupParamScheduler(Warmup):
    """Another schedule with a warm-up in front.

    Args:
        scheduler: what follows.
        warmup_factor: where the warm-up starts, as a fraction of the schedule's first value.
        warmup_length: the warm-up's part of the training, 0 to 1.
        warmup_method: ``"linear"`` or ``"constant"``.
        rescale_interval: run the whole of ``scheduler`` after the warm-up instead of leaving out its beginning.
    """

    def __init__(
        self,
        scheduler: Callable[[float], float],
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        if warmup_method not in ("linear", "constant"):
            raise ConfigError(f"warmup_method must be 'linear' or 'constant', received {warmup_method!r}")
        method: Literal["linear", "constant"] = "constant" if warmup_method == "constant" else "linear"
        super().__init__(scheduler, warmup_factor, warmup_length, method, rescale_interval)
