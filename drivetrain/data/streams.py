"""Infinite sequences of sample indices, epoch after epoch, with random access to any place.

A stream answers "which samples stand at places q, q+1, ...?" without walking there, so that a training resumes at any
point at once. `ShuffledStream` shows every sample once per epoch in a new order; `RepeatStream` shows sample k on
average ``repeats[k]`` times per epoch.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .permutation import RandomPermutation
from .randomness import derive

__all__ = ["EpochStream", "RepeatStream", "ShuffledStream"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]
_UNIT = 1 << 20  # repeat factors are counted in these fractions, so that sums stay exact


class EpochStream(Protocol):
    """An infinite sequence of indices into a dataset."""

    epoch_length: float
    """Samples per epoch (on average)."""

    def at(self, places: IntArray) -> IntArray:
        """The sample indices at ``places`` (int64 >= 0, shape (K,))."""
        ...


class ShuffledStream:
    """All of ``n`` samples once per epoch, shuffled anew in every epoch (or in order); O(1) memory."""

    def __init__(self, n: int, seed: int, *, shuffle: bool = True) -> None:
        """The stream over ``range(n)`` whose epoch e is the permutation named by (seed, e)."""
        self.epoch_length = float(n)
        self._n, self._seed, self._shuffle = n, seed, shuffle

    def at(self, places: IntArray) -> IntArray:
        """The sample indices at ``places`` (int64 >= 0, shape (K,))."""
        epochs, inside = np.divmod(places, self._n)
        if not self._shuffle:
            return inside
        out = np.empty_like(inside)
        for epoch in _distinct(epochs):
            chosen = epochs == epoch
            out[chosen] = RandomPermutation(self._n, self._seed, epoch).take(inside[chosen])
        return out


class RepeatStream:
    """Sample k on average ``repeats[k]`` times per epoch; in each epoch floor or ceil of that many times.

    The fractional parts are rounded by systematic sampling: the samples' factors are laid end to end on a line, in an
    order drawn anew for each epoch, and a sample is taken for every whole number that falls on its stretch. The line
    goes on from epoch to epoch, so that the epochs' beginnings are known in closed form and the long-run frequency of
    every sample is its factor. Memory and time are O(n) when an epoch is entered; the epoch in use is kept.
    """

    def __init__(self, repeats: np.ndarray[Any, Any], seed: int, *, shuffle: bool = True) -> None:
        """The stream of ``len(repeats)`` samples.

        Args:
            repeats: how often each sample comes up per epoch; finite, not negative, not all zero, shape (n,).
            seed: names the order.
            shuffle: False keeps the samples of an epoch in their order, repeats side by side.

        Raises:
            ValueError: a factor is negative or not finite, or their sum is zero.
        """
        factors = np.asarray(repeats, dtype=np.float64)
        if factors.ndim != 1 or not np.isfinite(factors).all() or (factors < 0).any():
            raise ValueError("repeat factors must be a flat array of finite numbers >= 0")
        self._units: IntArray = np.rint(factors * _UNIT).astype(np.int64)
        self._sum = int(self._units.sum())
        if self._sum == 0:
            raise ValueError("the repeat factors are all zero: no sample would ever be used")
        self.epoch_length = self._sum / _UNIT
        self._seed, self._shuffle = seed, shuffle
        self._phase = derive(seed, 0) % _UNIT
        self._kept: tuple[int, IntArray, IntArray] | None = None

    def at(self, places: IntArray) -> IntArray:
        """The sample indices at ``places`` (int64 >= 0, shape (K,))."""
        epochs = np.array([self._epoch_of(int(place)) for place in places], dtype=np.int64)
        out = np.empty_like(places)
        for epoch in _distinct(epochs):
            chosen = epochs == epoch
            out[chosen] = self._in_epoch(epoch, places[chosen])
        return out

    def _epoch_of(self, place: int) -> int:
        return (place * _UNIT + self._phase) // self._sum

    def _start(self, epoch: int) -> int:
        """The first place of ``epoch``: the least t with t * unit + phase >= epoch * sum."""
        return -((self._phase - epoch * self._sum) // _UNIT)

    def _in_epoch(self, epoch: int, places: IntArray) -> IntArray:
        start = self._start(epoch)
        inside = places - start
        if self._shuffle:
            inside = RandomPermutation(self._start(epoch + 1) - start, self._seed, epoch, 1).take(inside)
        order, ends = self._line(epoch)
        first = start * _UNIT + self._phase - epoch * self._sum
        return order[np.searchsorted(ends, inside * _UNIT + first, side="right")]

    def _line(self, epoch: int) -> tuple[IntArray, IntArray]:
        """The order of the samples on the epoch's line and where the stretch of each one ends, in units."""
        if self._kept is None or self._kept[0] != epoch:
            order = np.arange(len(self._units), dtype=np.int64)
            if self._shuffle:
                order = RandomPermutation(len(order), self._seed, epoch, 2).take(order)
            self._kept = (epoch, order, np.cumsum(self._units[order]))
        return self._kept[1], self._kept[2]


def _distinct(epochs: IntArray) -> list[int]:
    """The distinct values, ascending; quick for the usual case of one or two neighbours."""
    if epochs.size == 0:
        return []
    first, last = int(epochs.min()), int(epochs.max())
    return [first] if first == last else [int(e) for e in np.unique(epochs)]
