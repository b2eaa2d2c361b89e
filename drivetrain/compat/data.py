"""detectron2's ``data.common``: datasets of records for torch's ``DataLoader``."""

from __future__ import annotations

import copy as copying
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from drivetrain.errors import DatasetError

__all__ = ["DatasetFromList", "MapDataset"]

_TRIES = 1000  # mappers that return None this often in a row are taken to return nothing else


class DatasetFromList(Dataset[Any]):
    """A list as a dataset."""

    def __init__(self, lst: Sequence[Any], copy: bool = True, serialize: bool = True) -> None:
        """Wrap a list.

        Args:
            lst: of records.
            copy: give out copies, so that mappers may change them.
            serialize: keep the records pickled in one array, which processes that are forked share; they are made anew
                each time, so nothing else has to be copied.
        """
        self._copy, self._serialize = copy, serialize
        self._records: Sequence[Any] = [] if serialize else lst
        pickled = [pickle.dumps(record, protocol=-1) for record in lst] if serialize else []
        self._ends = np.cumsum([len(p) for p in pickled], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(pickled), dtype=np.uint8)

    def __len__(self) -> int:
        """The number of records."""
        return len(self._ends) if self._serialize else len(self._records)

    def __getitem__(self, index: int) -> Any:
        """One record."""
        if not self._serialize:
            return copying.deepcopy(self._records[index]) if self._copy else self._records[index]
        place = range(len(self))[index]
        start = int(self._ends[place - 1]) if place else 0
        return pickle.loads(self._bytes[start : int(self._ends[place])].tobytes())  # noqa: S301  # written above


class MapDataset(Dataset[Any]):
    """A dataset whose records go through a function; where that returns None, another record takes the place."""

    def __new__(cls, dataset: Any, map_func: Callable[[Any], Any]) -> Any:
        """An iterable dataset stays one."""
        return _MapIterable(dataset, map_func) if isinstance(dataset, IterableDataset) else super().__new__(cls)

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        """Map ``dataset``, which has a length and indices or is iterable, by ``map_func``."""
        self._dataset, self._map_func = dataset, map_func
        self._random = random.Random(42)

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What a pickle makes it of."""
        return self._dataset, self._map_func

    def __len__(self) -> int:
        """The number of records."""
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        """The mapped record, or that of another index.

        Raises:
            DatasetError: the function returned None for a thousand records in a row.
        """
        place = int(index)
        for _ in range(_TRIES):
            mapped = self._map_func(self._dataset[place])
            if mapped is not None:
                return mapped
            place = self._random.randrange(len(self._dataset))
        raise DatasetError(f"the mapper {self._map_func!r} returned None for {_TRIES:,} records in a row")


class _MapIterable(IterableDataset[Any]):
    """The same for an iterable dataset: records for which the function returns None are left out."""

    def __init__(self, dataset: Any, map_func: Callable[[Any], Any]) -> None:
        self._dataset, self._map_func = dataset, map_func

    def __iter__(self) -> Iterator[Any]:
        """The mapped records."""
        mapped = map(self._map_func, self._dataset)
        return (record for record in mapped if record is not None)
