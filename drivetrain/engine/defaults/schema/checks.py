"""What values of a config have to meet."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from drivetrain.modeling.entry import TARGETS

__all__ = ["below_one", "increasing", "positive", "seconds_or_auto", "targets"]


def positive(value: Any) -> None:
    """Check that a number, or each of several, is above zero."""
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    if not all(number > 0 for number in numbers):
        raise ValueError(f"must be above 0, received {value!r}")


def increasing(value: tuple[int, ...]) -> None:
    """Check that iterations come in order."""
    if any(later <= earlier for earlier, later in pairwise(value)):
        raise ValueError(f"must be increasing iterations, received {value!r}")


def below_one(value: Any) -> None:
    """Check decay rates, which must not be 1."""
    numbers = value if isinstance(value, (tuple, list)) else (value,)
    if not all(0 <= number < 1 for number in numbers):
        raise ValueError(f"must be at least 0 and below 1, received {value!r}")


def targets(value: tuple[str, ...]) -> None:
    """Check the names of what a model learns from."""
    unknown = [name for name in value if name not in TARGETS]
    if unknown:
        raise ValueError(f"must be of {', '.join(TARGETS)}, received {value!r}")


def seconds_or_auto(value: float | str) -> None:
    """Check a time that may be left to the program."""
    if value != "auto" and (isinstance(value, str) or not value >= 0):
        raise ValueError(f'must be seconds, 0 for off, or "auto", received {value!r}')
