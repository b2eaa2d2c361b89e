"""Schedules: functions of training progress, which runs from 0 at the first iteration to 1 after the last.

A schedule gives the factor that every base learning rate is multiplied by. It is a pure function, so the rate of
an iteration never depends on how training got there, and a resumed run needs the iteration number alone.

Iteration ``i`` of ``n`` has progress ``i / n``. The places where schedules change are fractions of the same kind, and
equal fractions are equal floats. Where a warm-up has moved the places (``rescale``) they are not, so steps are taken
with a tolerance that is far less than an iteration.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

__all__ = [
    "Constant",
    "Cosine",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Poly",
    "Schedule",
    "Warmup",
    "step_with_fixed_gamma",
]

Schedule = Callable[[float], float]

_ROUNDING = 1e-12  # more than what subtracting and dividing fractions rounds off


@dataclass(frozen=True)
class Constant:
    """The same value throughout."""

    value: float = 1.0

    def __call__(self, progress: float) -> float:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Linear:
    """A straight line from ``start`` to ``end``."""

    start: float
    end: float

    def __call__(self, progress: float) -> float:
        """The value at ``progress``."""
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True)
class Cosine:
    """Half a cosine wave from ``start`` to ``end`` (Loshchilov and Hutter, SGDR, 2017, without restarts)."""

    start: float = 1.0
    end: float = 0.0

    def __call__(self, progress: float) -> float:
        """The value at ``progress``."""
        return _half_wave(self.start, self.end, progress)


def _half_wave(start: float, end: float, part: float) -> float:
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * part))


@dataclass(frozen=True)
class MultiStep:
    """1 at first, multiplied by ``gamma`` at each milestone.

    Args:
        milestones: increasing progress values; a milestone itself has the lower value already.
        gamma: the factor.
    """

    milestones: tuple[float, ...]
    gamma: float = 0.1

    def __call__(self, progress: float) -> float:
        """The value at ``progress``."""
        return float(self.gamma ** bisect_right(self.milestones, progress + _ROUNDING))


def step_with_fixed_gamma(gamma: float, num_decays: int) -> MultiStep:
    """``num_decays`` decays by ``gamma`` that cut the training into equally long parts."""
    parts = num_decays + 1
    return MultiStep(tuple(part / parts for part in range(1, parts)), gamma)


@dataclass(frozen=True)
class Poly:
    """A power of what is left of the training (Chen et al., DeepLab, arXiv 1606.00915), times a warm-up of its own.

    Args:
        power: the exponent.
        least: the smallest value after the warm-up.
        warmup_factor: what the first value is multiplied by.
        warmup_length: how long the warm-up lasts.
        warmup_method: whether its factor rises to 1 ("linear") or stays until its end ("constant").
    """

    power: float = 0.9
    least: float = 0.0
    warmup_factor: float = 1.0
    warmup_length: float = 0.0
    warmup_method: Literal["linear", "constant"] = "linear"

    def __call__(self, progress: float) -> float:
        """The value at ``progress``."""
        falling = float((1.0 - progress) ** self.power)
        if progress >= self.warmup_length - _ROUNDING:
            return max(falling, self.least)
        done = 0.0 if self.warmup_method == "constant" else progress / self.warmup_length
        return falling * (self.warmup_factor * (1.0 - done) + done)


@dataclass(frozen=True)
class OneCycle:
    """A cosine rise to 1 and a longer cosine fall (Smith and Topin, Super-Convergence, 2018).

    Args:
        start: value at progress 0.
        end: value at progress 1.
        peak: progress at which the value is 1.
    """

    start: float = 1.0 / 25.0
    end: float = 0.0
    peak: float = 0.3

    def __call__(self, progress: float) -> float:
        """The value at ``progress``."""
        if progress < self.peak:
            return _half_wave(self.start, 1.0, progress / self.peak)
        return _half_wave(1.0, self.end, (progress - self.peak) / (1.0 - self.peak))


@dataclass(frozen=True)
class Warmup:
    """A warm-up in front of another schedule.

    The warm-up starts at ``factor * schedule(0)``. A linear one meets the schedule where it takes over, so there is
    no jump; a constant one stays and jumps.

    Args:
        schedule: what follows.
        factor: where the warm-up starts, as a fraction of the schedule's first value.
        length: progress at which the warm-up ends, 0 (none) to 1 (nothing else).
        method: ``"linear"`` or ``"constant"``.
        rescale: run the whole of ``schedule`` in the time after the warm-up, instead of leaving out the part of it
            that the warm-up covers.
    """

    schedule: Schedule
    factor: float
    length: float
    method: Literal["linear", "constant"] = "linear"
    rescale: bool = False

    def __call__(self, progress: float) -> float:
        """The value at ``progress``."""
        if progress >= self.length:
            return self.schedule(self._rescaled(progress) if self.rescale else progress)
        start, end = self._ends
        return start + (end - start) * (progress / self.length)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """Where the warm-up starts, and what it rises to."""
        start = self.factor * self.schedule(0.0)
        return start, start if self.method == "constant" else self.schedule(0.0 if self.rescale else self.length)

    def _rescaled(self, progress: float) -> float:
        return (progress - self.length) / (1.0 - self.length) if self.length < 1.0 else 1.0
