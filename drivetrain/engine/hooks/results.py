"""Results of evaluations: flat names, and one metric out of them with its best value so far."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from drivetrain.errors import EvaluationError, TrainingError, did_you_mean

__all__ = ["Metric", "Mode", "flatten_results"]

Mode = Literal["max", "min"]
logger = logging.getLogger(__name__)


def flatten_results(results: Mapping[Any, Any]) -> dict[str, float]:
    """Nested results with names joined by ``/``: ``{"bbox": {"AP": 40}}`` becomes ``{"bbox/AP": 40.0}``.

    Raises:
        EvaluationError: a value is no number; the message names its key. It is a ValueError.
    """
    if not isinstance(results, Mapping):
        raise EvaluationError(
            f"an evaluation function has to return a nested dict of numbers (or None), not {_shown(results)}"
        )
    return dict(_leaves(results, ""))


def _leaves(results: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}/")
            continue
        try:
            yield name, float(value)
        except (TypeError, ValueError, RuntimeError):
            raise EvaluationError(
                f"an evaluation function has to return a nested dict of numbers, but {name!r} is {_shown(value)}: "
                "leave it out, or make it a number"
            ) from None


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"


class Metric:
    """One metric of the evaluations and its best value so far.

    Args:
        name: its flat name, such as ``bbox/AP``.
        mode: ``"max"`` when larger is better, ``"min"`` when smaller is.
        min_delta: by how much a value has to be better than the best one to count as better.

    Attributes:
        best: the best value so far; None before the first.
    """

    def __init__(self, name: str, mode: Mode = "max", min_delta: float = 0.0) -> None:
        if mode not in ("max", "min"):
            raise TrainingError(f"mode={mode!r} of the metric {name!r} is unknown: use 'max' or 'min'")
        if not min_delta >= 0:
            raise TrainingError(f"min_delta={min_delta!r} of the metric {name!r} has to be 0 or more")
        self.name = name
        self.mode = mode
        self.min_delta = min_delta
        self.best: float | None = None
        self._warned = False

    def read(self, results: Mapping[str, float]) -> float | None:
        """The metric's value in an evaluation's results; None when they lack it, which is said once."""
        if self.name in results:
            return results[self.name]
        # Nothing is known off rank 0; and a validation loss is an evaluation of its own, beside the others.
        if results and not self._warned and not all(name.startswith("validation") for name in results):
            self._warned = True
            logger.warning(
                "the evaluation has no metric %r%s (it has %s)",
                self.name,
                did_you_mean(self.name, results),
                ", ".join(sorted(results)[:20]),
            )
        return None

    def improves(self, value: float) -> bool:
        """Whether ``value`` is better than the best so far, which it then replaces; NaN and infinity never are."""
        if not math.isfinite(value):
            return False
        if self.best is not None:
            gain = value - self.best if self.mode == "max" else self.best - value
            if not (gain > 0 and gain >= self.min_delta):
                return False
        self.best = value
        return True
