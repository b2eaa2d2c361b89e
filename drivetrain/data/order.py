"""The order of the training stream: which samples global batch i holds, for any i, at once.

`GlobalOrder.batch` is a pure function of the seed and the batch's number. It needs no state, so that the order
depends on neither workers nor ranks, and a training continues at batch 90,000 as fast as at batch 0.

With groups (aspect ratios), every batch holds samples of one group. Each group is a stream of its own, and the batches
are dealt to the groups in proportion to their sizes: for two groups by a Bresenham line, for more by splitting the
rest of the line again. So that the pattern is not periodic, the batches are shuffled within blocks of 64.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drivetrain.errors import ConfigError, DatasetError

from .members import Members
from .permutation import RandomPermutation
from .randomness import derive
from .streams import EpochStream, RepeatStream, ShuffledStream

__all__ = ["GlobalOrder", "check_batch_size", "rank_slice"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]
Batch = tuple[IntArray, IntArray]
_BLOCK = 64


def check_batch_size(batch_size: int, world_size: int = 1) -> int:
    """The number of samples per rank of a global batch of ``batch_size``.

    Raises:
        ConfigError: it is no integer, less than 1, or does not split evenly over the ranks.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ConfigError(f"the batch size (SOLVER.IMS_PER_BATCH) must be an integer of 1 or more, not {batch_size!r}")
    if batch_size % world_size:
        below = batch_size // world_size * world_size
        choices = f"{below} or {below + world_size}" if below else str(world_size)
        raise ConfigError(
            f"a batch of {batch_size} images (SOLVER.IMS_PER_BATCH) cannot be split evenly over {world_size} "
            f"ranks; use {choices}"
        )
    return int(batch_size) // world_size


def rank_slice(batch: Batch, rank: int, world_size: int) -> Batch:
    """The part of a global batch, (indices, positions), that belongs to one rank: the rank-th of equal slices."""
    size = check_batch_size(len(batch[0]), world_size)
    part = slice(rank * size, (rank + 1) * size)
    return batch[0][part], batch[1][part]


class GlobalOrder:
    """An infinite sequence of global batches.

    Attributes:
        num_samples: size of the dataset.
        batch_size: samples per global batch, over all ranks.
        seed: names the sequence.
        epoch_length: samples per epoch (a fraction with repeat factors).
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool = True,
        groups: Sequence[int] | np.ndarray[Any, Any] | None = None,
        repeats: Sequence[float] | np.ndarray[Any, Any] | None = None,
    ) -> None:
        """Define the sequence.

        Args:
            num_samples: size of the dataset, 1 or more.
            batch_size: samples per global batch.
            seed: any integer.
            shuffle: False takes the samples of each epoch (and group) in order.
            groups: a group number for each sample; batches do not mix groups.
            repeats: how often each sample comes up per epoch, on average (LVIS repeat factors); 1 without.

        Raises:
            DatasetError: the dataset is empty.
            ConfigError: the batch size is not an integer of 1 or more.
            ValueError: ``groups`` or ``repeats`` has another length than the dataset, or unusable values.
        """
        if num_samples < 1:
            raise DatasetError("there is nothing to train on: the training dataset has 0 images")
        check_batch_size(batch_size)
        for name, values in (("groups", groups), ("repeats", repeats)):
            if values is not None and len(values) != num_samples:
                raise ValueError(f"{name} has {len(values)} entries for {num_samples} samples")
        self.num_samples, self.batch_size, self.seed = num_samples, int(batch_size), int(seed)
        self._shuffle = shuffle
        factors = None if repeats is None else np.asarray(repeats, dtype=np.float64)
        self._groups = [_Group(None, factors)] if groups is None else _split(np.asarray(groups), factors)
        self._make_streams()

    def with_seed(self, seed: int) -> GlobalOrder:
        """The same order over the same samples under another seed."""
        other = copy.copy(self)
        other.seed = int(seed)
        other._make_streams()
        return other

    def batch(self, number: int) -> Batch:
        """Global batch ``number`` (0, 1, ...): sample indices and stream positions, int64, shape (batch_size,) each.

        A position is the place of a sample in the whole stream, ``number * batch_size + slot``; no two are equal,
        so the randomness of a sample's augmentation is derived from it.
        """
        if number < 0:
            raise ValueError(f"batches are numbered from 0, but batch {number} was asked for")
        slots = np.arange(self.batch_size, dtype=np.int64)
        positions = number * self.batch_size + slots
        if len(self._streams) == 1:
            return self._of_group(0, positions), positions
        group, nth = self._dealer.deal(number)
        return self._of_group(group, nth * self.batch_size + slots), positions

    def local_batches(self, start: int, rank: int, world_size: int) -> Iterator[Batch]:
        """One rank's parts of the global batches ``start``, ``start + 1``, ...: (indices, positions), without end."""
        for number in itertools.count(start):
            yield rank_slice(self.batch(number), rank, world_size)

    def _of_group(self, number: int, places: IntArray) -> IntArray:
        inside = self._streams[number].at(places)
        members = self._groups[number].members
        return inside if members is None else members.take(inside)

    def _make_streams(self) -> None:
        """One stream per group, under the seed, and what deals the batches to them."""
        self._streams = [self._stream(group, number) for number, group in enumerate(self._groups)]
        lengths = [stream.epoch_length for stream in self._streams]
        self.epoch_length = sum(lengths)
        self._dealer = _Dealer(lengths, derive(self.seed, 0), self._shuffle)

    def _stream(self, group: _Group, number: int) -> EpochStream:
        seed = derive(self.seed, 1, number)
        if group.repeats is not None:
            return RepeatStream(group.repeats, seed, shuffle=self._shuffle)
        size = self.num_samples if group.members is None else len(group.members)
        return ShuffledStream(size, seed, shuffle=self._shuffle)


@dataclass(frozen=True)
class _Group:
    """Samples of which batches are made: which (None: all) and how often each (None: once an epoch)."""

    members: Members | None
    repeats: np.ndarray[Any, np.dtype[np.float64]] | None


def _split(groups: np.ndarray[Any, Any], repeats: np.ndarray[Any, Any] | None) -> list[_Group]:
    """The groups by ascending number, without those of which no sample ever comes up."""
    values = [False, True] if groups.dtype == bool else np.unique(groups).tolist()
    found = []
    for value in values:
        inside = groups == value
        own = None if repeats is None else repeats[inside]
        if inside.any() and (own is None or own.sum() > 0):
            found.append(_Group(Members(inside), own))
    return found


class _Dealer:
    """Deals an infinite sequence of batches to groups in proportion to their weights."""

    def __init__(self, weights: Sequence[float], seed: int, shuffle: bool) -> None:
        self._weights = [round(w * (1 << 20)) for w in weights]  # exact integers, so that counts never drift
        self._seed, self._shuffle = seed, shuffle

    def counts_before(self, number: int) -> list[int]:
        """How many of the first ``number`` batches (a multiple of the block) each group has; they sum to ``number``.

        Group 0 gets its share of the line, rounded; the rest of the line is split in the same way among the others.
        Each count grows by 0 or 1 from one number to the next and stays close to its exact share.
        """
        counts, left, weight_left = [], number, sum(self._weights)
        for weight in self._weights:
            share = (2 * left * weight + weight_left) // (2 * weight_left) if weight < weight_left else left
            counts.append(share)
            left, weight_left = left - share, weight_left - weight
        return counts

    def deal(self, number: int) -> tuple[int, int]:
        """The group of batch ``number``, and how many batches that group had before."""
        block, slot = divmod(number, _BLOCK)
        before, after = self.counts_before(block * _BLOCK), self.counts_before((block + 1) * _BLOCK)
        dealt = np.repeat(np.arange(len(before)), np.subtract(after, before))
        if self._shuffle:
            dealt = dealt[RandomPermutation(_BLOCK, self._seed, block).take(np.arange(_BLOCK))]
        group = int(dealt[slot])
        return group, before[group] + int((dealt[:slot] == group).sum())
