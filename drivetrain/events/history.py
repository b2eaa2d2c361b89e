"""The history of one scalar."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from math import fsum, isnan, nan
from typing import Any

__all__ = ["ScalarHistory"]


class ScalarHistory:
    """The newest values of one scalar with their iterations, and the average over all there ever were.

    Memory is bounded: 16 bytes for each of the newest ``max_length`` values, and for at most a quarter more, which are
    no longer shown.

    Values can be *provisional*: with several ranks a value is this rank's own until the mean over ranks is known.
    Provisional values are read like any other and are replaced when the final ones come.

    Args:
        max_length: how many values are kept.
    """

    __slots__ = (
        "_dropped",
        "_iterations",
        "_max_length",
        "_most",
        "_provisional",
        "_smoothed",
        "_sum",
        "_summed",
        "_values",
    )

    def __init__(self, max_length: int = 10_000) -> None:
        self._max_length = max_length
        self._most = max_length + max_length // 4
        self._values = array("d")
        self._iterations = array("q")
        self._provisional: list[tuple[float, int]] = []
        self._dropped = 0
        self._sum = 0.0  # of the dropped values and of the first `_summed` that are kept
        self._summed = 0
        self._smoothed: tuple[int, float] | None = None  # window and result, until something changes

    # Putting

    def update(self, value: float, iteration: int) -> None:
        """Append a final value."""
        self.extend((value,), (iteration,))

    def extend(self, values: Iterable[float], iterations: Iterable[int]) -> None:
        """Append final values, with as many iterations."""
        self._values.extend(values)
        self._iterations.extend(iterations)
        self._smoothed = None
        if len(self._values) > self._most:
            self._shorten()

    def _shorten(self) -> None:
        excess = len(self._values) - self._max_length
        self._add_up(excess)
        del self._values[:excess], self._iterations[:excess]
        self._summed -= excess
        self._dropped += excess

    def _add_up(self, until: int) -> None:
        """Add the values before ``until`` to the sum, each once and in their order."""
        for value in self._values[self._summed : until]:
            self._sum += value
        self._summed = max(self._summed, until)

    def update_provisional(self, value: float, iteration: int) -> None:
        """Append a value that :meth:`drop_provisional` takes back."""
        self._provisional.append((value, iteration))
        self._smoothed = None

    def drop_provisional(self) -> None:
        """Forget the provisional values; their final ones are about to be appended."""
        self._provisional.clear()
        self._smoothed = None

    # Reading

    @property
    def count(self) -> int:
        """How many final values there ever were, those no longer kept included."""
        return self._dropped + len(self._values)

    def newest(self, most: int) -> list[tuple[float, int]]:
        """The newest ``most`` final values as ``(value, iteration)``, oldest first; fewer if fewer are kept."""
        most = min(most, self._max_length)
        return list(zip(self._values[-most:], self._iterations[-most:], strict=True)) if most > 0 else []

    def final_iteration(self) -> int:
        """The iteration of the newest final value."""
        return self._iterations[-1]

    def is_dense(self, most: int) -> bool:
        """Whether the newest ``most`` final values belong to as many iterations without a gap, in order."""
        iterations = self._iterations[-most:]
        return iterations == array("q", range(iterations[0], iterations[0] + most))

    def values(self) -> list[tuple[float, int]]:
        """The kept values as ``(value, iteration)``, oldest first."""
        return [*self.newest(self._max_length), *self._provisional]

    def _last(self, window_size: int) -> list[float]:
        if window_size < 1:
            raise ValueError(f"a window has at least 1 value, received {window_size}")
        if not self._provisional:
            return self._values[-min(window_size, self._max_length) :].tolist()
        return [value for value, _ in self.values()[-window_size:]]

    def latest(self) -> float:
        """The newest value."""
        return self._provisional[-1][0] if self._provisional else self._values[-1]

    def latest_iteration(self) -> int:
        """The iteration of the newest value."""
        return self._provisional[-1][1] if self._provisional else self._iterations[-1]

    def median(self, window_size: int) -> float:
        """Median of the last ``window_size`` values; NaN if one of them is."""
        ordered = sorted(self._last(window_size))
        if isnan(sum(ordered)) and any(map(isnan, ordered)):  # the sum of both infinities is NaN too
            return nan
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

    def smoothed(self, window_size: int) -> float:
        """Median of the values of the last ``window_size`` iterations; several writers ask for the same one."""
        if self._smoothed is None or self._smoothed[0] != window_size:
            self._smoothed = (window_size, self.median(self.count_since(self.latest_iteration() - window_size)))
        return self._smoothed[1]

    def avg(self, window_size: int) -> float:
        """Mean of the last ``window_size`` values."""
        values = self._last(window_size)
        try:
            return fsum(values) / len(values)
        except (OverflowError, ValueError):  # of numbers too large to add up exactly, of both infinities
            return sum(values) / len(values)

    def global_avg(self) -> float:
        """Mean of every value since the beginning, also of those no longer kept."""
        self._add_up(len(self._values))
        return (self._sum + sum(v for v, _ in self._provisional)) / (self.count + len(self._provisional))

    def count_since(self, iteration: int) -> int:
        """Number of values, counted from the newest, whose iteration is greater than ``iteration``."""
        count = 0
        for _, at in reversed(self._provisional):
            if at <= iteration:
                return count
            count += 1
        for at in reversed(self._iterations):
            if at <= iteration:
                break
            count += 1
        return min(count, len(self))

    def __len__(self) -> int:
        """Number of values kept."""
        return min(len(self._values), self._max_length) + len(self._provisional)

    # Checkpoints

    def state_dict(self, most: int) -> dict[str, object]:
        """The newest ``most`` final values and the running sum, as plain values."""
        self._add_up(len(self._values))
        return {"values": self.newest(most), "count": self.count, "sum": self._sum}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> ScalarHistory:
        """The history that :meth:`state_dict` described."""
        history = cls()
        history.extend((float(v) for v, _ in state["values"]), (int(i) for _, i in state["values"]))
        history._summed = len(history._values)
        history._dropped = int(state["count"]) - history._summed
        history._sum = float(state["sum"])
        return history
