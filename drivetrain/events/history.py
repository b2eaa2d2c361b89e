"""The history of one scalar."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any

__all__ = ["ScalarHistory"]


class ScalarHistory:
    """The newest values of one scalar with their iterations, and the average over all there ever were.

    Memory is bounded: at most ``max_length`` values are kept, the oldest go first.

    Values can be *provisional*: with several ranks a value is this rank's own until the mean over ranks is known.
    Provisional values are read like any other and are replaced when the final ones come.
    """

    __slots__ = ("_count", "_provisional", "_sum", "_values")

    def __init__(self, max_length: int = 10_000) -> None:
        self._values: deque[tuple[float, int]] = deque(maxlen=max_length)
        self._provisional: list[tuple[float, int]] = []
        self._count = 0
        self._sum = 0.0

    def update(self, value: float, iteration: int) -> None:
        """Append a final value."""
        self._values.append((value, iteration))
        self._count += 1
        self._sum += value

    def update_provisional(self, value: float, iteration: int) -> None:
        """Append a value that :meth:`drop_provisional` takes back."""
        self._provisional.append((value, iteration))

    def drop_provisional(self) -> None:
        """Forget the provisional values; their final ones are about to be appended."""
        self._provisional.clear()

    def _last(self, window_size: int) -> list[float]:
        provisional = self._provisional[-window_size:]
        kept = islice(reversed(self._values), window_size - len(provisional))
        return [v for v, _ in reversed(list(kept))] + [v for v, _ in provisional]

    def latest(self) -> float:
        """The newest value."""
        return (self._provisional or self._values)[-1][0]

    def median(self, window_size: int) -> float:
        """Median of the last ``window_size`` values."""
        return float(statistics.median(self._last(window_size)))

    def avg(self, window_size: int) -> float:
        """Mean of the last ``window_size`` values."""
        return statistics.fmean(self._last(window_size))

    def global_avg(self) -> float:
        """Mean of every value since the beginning, also of those no longer kept."""
        extra = [v for v, _ in self._provisional]
        return (self._sum + sum(extra)) / (self._count + len(extra))

    def values(self) -> list[tuple[float, int]]:
        """The kept values as ``(value, iteration)``, oldest first."""
        return [*self._values, *self._provisional]

    def count_since(self, iteration: int) -> int:
        """Number of values, counted from the newest, whose iteration is greater than ``iteration``."""
        count = 0
        for _, at in reversed(self.values()):
            if at <= iteration:
                break
            count += 1
        return count

    def state_dict(self, most: int) -> dict[str, object]:
        """The newest ``most`` final values and the running sum, as plain values."""
        kept = list(islice(reversed(self._values), most))[::-1]
        return {"values": kept, "count": self._count, "sum": self._sum}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> ScalarHistory:
        """The history that :meth:`state_dict` described."""
        history = cls()
        for value, iteration in state["values"]:
            history.update(float(value), int(iteration))
        history._count, history._sum = int(state["count"]), float(state["sum"])
        return history

    def __len__(self) -> int:
        """Number of values kept."""
        return len(self._values) + len(self._provisional)
