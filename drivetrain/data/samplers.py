"""Samplers under the names that detectron2's users know, for code that builds its own ``DataLoader``.

`drivetrain.data.build_detection_train_loader` does not iterate over the two training samplers: it asks them for the
`GlobalOrder` they stand for, which also knows how to resume.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from drivetrain.errors import ConfigError, DatasetError
from drivetrain.runtime import comm

from .order import GlobalOrder
from .store import RecordStore
from .streams import EpochStream, RepeatStream, ShuffledStream
from .views import RecordView

__all__ = [
    "InferenceSampler",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
    "repeat_factors_from_category_frequency",
]

_CHUNK = 256  # indices computed at a time


def _every_nth(stream: EpochStream, rank: int, world_size: int) -> Iterator[int]:
    """The places rank, rank + world_size, ... of an infinite stream."""
    for start in itertools.count(rank, _CHUNK * world_size):
        places = np.arange(start, start + _CHUNK * world_size, world_size, dtype=np.int64)
        yield from stream.at(places).tolist()


class TrainingSampler(Sampler[int]):
    """An infinite stream of indices, all of ``range(size)`` once per epoch; each rank takes every world-size-th one."""

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        """Make the sampler; all ranks together when ``seed`` is None.

        Args:
            size: of the dataset.
            shuffle: shuffle each epoch anew.
            seed: the same on every rank; None agrees on a random one.

        Raises:
            DatasetError: ``size`` is less than 1.
        """
        if size < 1:
            raise DatasetError(f"there is nothing to sample from: the dataset has {size} images")
        self.size, self.shuffle = size, shuffle
        self.seed = comm.shared_random_seed() if seed is None else int(seed)

    def __iter__(self) -> Iterator[int]:
        """This rank's indices, without end."""
        stream = ShuffledStream(self.size, self.seed, shuffle=self.shuffle)
        return _every_nth(stream, comm.get_rank(), comm.get_world_size())

    def order(self, batch_size: int, groups: np.ndarray[Any, Any] | None = None) -> GlobalOrder:
        """The batches of ``batch_size`` (over all ranks) that this sampler stands for."""
        return GlobalOrder(self.size, batch_size, self.seed, shuffle=self.shuffle, groups=groups)


class RepeatFactorTrainingSampler(Sampler[int]):
    """An infinite stream in which image k comes up ``repeat_factors[k]`` times per epoch on average.

    Meant for rare categories (Gupta, Dollár and Girshick, "LVIS", CVPR 2019, appendix B.2).
    """

    def __init__(
        self,
        repeat_factors: torch.Tensor | np.ndarray[Any, Any] | Sequence[float],
        *,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        """Make the sampler; all ranks together when ``seed`` is None.

        Args:
            repeat_factors: one factor >= 0 per image, shape (n,).
            shuffle: shuffle each epoch anew.
            seed: the same on every rank; None agrees on a random one.

        Raises:
            ValueError: a factor is negative or not finite, or all are zero.
        """
        self.repeat_factors = np.asarray(repeat_factors, dtype=np.float64)
        self.shuffle = shuffle
        self.seed = comm.shared_random_seed() if seed is None else int(seed)
        self._stream = RepeatStream(self.repeat_factors, self.seed, shuffle=shuffle)

    def __iter__(self) -> Iterator[int]:
        """This rank's indices, without end."""
        return _every_nth(self._stream, comm.get_rank(), comm.get_world_size())

    def order(self, batch_size: int, groups: np.ndarray[Any, Any] | None = None) -> GlobalOrder:
        """The batches of ``batch_size`` (over all ranks) that this sampler stands for."""
        n = len(self.repeat_factors)
        return GlobalOrder(n, batch_size, self.seed, shuffle=self.shuffle, groups=groups, repeats=self.repeat_factors)

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: Iterable[Mapping[str, Any]], repeat_thresh: float
    ) -> torch.Tensor:
        """See the function `repeat_factors_from_category_frequency`; the result is a float32 tensor, shape (n,)."""
        factors = repeat_factors_from_category_frequency(dataset_dicts, repeat_thresh)
        return torch.from_numpy(factors).to(torch.float32)


def repeat_factors_from_category_frequency(
    records: Iterable[Mapping[str, Any]], repeat_thresh: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A repeat factor for each record, larger for those that show a rare category (the rule of LVIS, appendix B.2).

    Let f(c) be the fraction of images with category c. The category's factor is ``max(1, sqrt(repeat_thresh /
    f(c)))`` and an image's factor the largest of its categories' (1 for an image without any).

    Args:
        records: dataset records with ``annotations``, each of which has a ``category_id``.
        repeat_thresh: the frequency below which a category is repeated, in [0, 1].

    Raises:
        ConfigError: the threshold is not in [0, 1].
        DatasetError: there are no records.
    """
    if not 0 <= repeat_thresh <= 1:
        raise ConfigError(f"DATALOADER.REPEAT_THRESHOLD is a fraction in [0, 1], not {repeat_thresh!r}")
    places, classes, count = _categories(records)
    if count == 0:
        raise DatasetError("there are no images to compute repeat factors of: the dataset is empty")
    known = np.unique(classes)
    pairs = np.sort(places.astype(np.int64) * len(known) + np.searchsorted(known, classes))
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # an image counts once for a category
    images, codes = np.divmod(pairs, max(len(known), 1))
    factors = np.maximum(np.sqrt(repeat_thresh * count / np.bincount(codes)), 1.0)
    largest = np.ones(count)
    np.maximum.at(largest, images, factors[codes])
    return largest


def _categories(records: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    """The place of the record and the category of every annotation, and the number of records."""
    if isinstance(records, (RecordStore, RecordView)):
        return *records.categories(), len(records)
    found = [[a["category_id"] for a in record.get("annotations", ())] for record in records]
    places = np.repeat(np.arange(len(found)), [len(present) for present in found])
    return places, np.array([c for present in found for c in present]), len(found)


class InferenceSampler(Sampler[int]):
    """This rank's share of ``range(size)``, a contiguous block, each index once over all ranks, none added."""

    def __init__(self, size: int) -> None:
        """Split ``range(size)`` into blocks whose lengths differ by at most one, the first ranks having the longer."""
        if size < 0:
            raise ValueError(f"a dataset cannot have {size} images")
        rank, world_size = comm.get_rank(), comm.get_world_size()
        share, left = divmod(size, world_size)
        start = rank * share + min(rank, left)
        self._indices = range(start, start + share + (rank < left))

    def __iter__(self) -> Iterator[int]:
        """The indices of this rank's block, in order."""
        return iter(self._indices)

    def __len__(self) -> int:
        """The length of this rank's block."""
        return len(self._indices)
