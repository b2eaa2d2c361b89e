"""Lengths of a training: iterations (``40000``) or passes over the training set (``"12ep"``)."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from drivetrain.errors import ConfigError

__all__ = ["check_length", "parse_length"]

_EPOCHS = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(?:ep|epochs?)\s*", re.ASCII)
_ITERATIONS = re.compile(r"\s*(\d+)\s*", re.ASCII)


def parse_length(
    value: int | str, samples: int | None = None, batch: int | None = None, *, name: str = "a length"
) -> int:
    """The number of iterations that a length means.

    Args:
        value: iterations as an int or text, or epochs as ``"12ep"`` or ``"0.5ep"``. Epochs are rounded up to whole
            iterations, so that every image is seen at least that many times.
        samples: images in the training set; needed for epochs.
        batch: images that one iteration consumes; needed for epochs.
        name: what the length is of, for messages (a config key).

    Raises:
        ConfigError: ``value`` is not a length, or is in epochs while ``samples`` and ``batch`` are not known or
            not positive.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = value if isinstance(value, str) else ""
    if match := _ITERATIONS.fullmatch(text):
        return int(match[1])
    match = _EPOCHS.fullmatch(text)
    if match is None:
        raise ConfigError(f"{name} must be iterations (40000) or epochs ('12ep'), received {value!r}")
    if samples is None or batch is None:
        raise ConfigError(
            f"{name} is {value!r}, which becomes iterations only where the size of the training set is known; "
            "give it in iterations"
        )
    if samples < 1 or batch < 1:
        raise ConfigError(f"{name} is {value!r}, but of {samples} images in batches of {batch} there is no epoch")
    return math.ceil(Fraction(match[1]) * samples / batch)


def check_length(value: int | str, least: int = 0) -> None:
    """Check a config value that is a length.

    Args:
        value: iterations or epochs.
        least: the smallest number of iterations allowed; more than zero also refuses zero epochs.

    Raises:
        ValueError: the rest of the sentence "<key> ...".
    """
    try:
        # With one image and a batch of one, epochs are iterations: enough to see whether they are positive.
        iterations = parse_length(value, 1, 1)
    except ConfigError:
        raise ValueError(f"must be iterations (40000) or epochs ('12ep'), received {value!r}") from None
    epochs = isinstance(value, str) and _EPOCHS.fullmatch(value) is not None
    if iterations < (min(least, 1) if epochs else least):
        raise ValueError(f"must be at least {least}, received {value!r}")
