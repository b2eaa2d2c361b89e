"""A selection of records from several stores, as one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from .store import RecordStore

__all__ = ["RecordView", "select"]

Record = dict[str, Any]
Array = np.ndarray[Any, Any]


class RecordView(Sequence[Record]):
    """Chosen records of stores laid end to end; nothing is copied, ``view[i]`` is a fresh dict.

    Attributes:
        stores: what is selected from.
    """

    def __init__(self, stores: Sequence[RecordStore], places: Array) -> None:
        """Select ``places``, int (N,), counted over all stores in order."""
        self.stores = list(stores)
        self._ends = np.cumsum([len(s) for s in stores])
        self._places = np.asarray(places, dtype=np.int32 if self._ends[-1] < 2**31 else np.int64)

    def __len__(self) -> int:
        """The number of records selected."""
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        """The record at an index, or the list of those in a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = int(self._places[index])
        number = int(np.searchsorted(self._ends, place, side="right"))
        return self.stores[number][place - int(self._ends[number]) + len(self.stores[number])]

    @property
    def heights(self) -> Array:
        """(N,) heights in pixels; 0 where a record has none."""
        return np.asarray(np.concatenate([s.heights for s in self.stores])[self._places])

    @property
    def widths(self) -> Array:
        """(N,) widths in pixels; 0 where a record has none."""
        return np.asarray(np.concatenate([s.widths for s in self.stores])[self._places])

    @property
    def num_objects(self) -> Array:
        """(N,) the number of annotations of each record that are not crowds."""
        return np.asarray(np.concatenate([s.num_objects for s in self.stores])[self._places])

    def categories(self) -> tuple[Array, Array]:
        """The place in this view and the class of every annotation, as of `RecordStore.categories`."""
        counts = np.concatenate([s.num_annotations for s in self.stores])
        classes = np.concatenate([s.categories()[1] for s in self.stores])
        first = (np.cumsum(counts) - counts)[self._places]
        own = counts[self._places]
        rows = np.arange(own.sum()) + np.repeat(first - (np.cumsum(own) - own), own)
        return np.repeat(np.arange(len(self)), own), np.asarray(classes[rows])

    def __repr__(self) -> str:
        """How many records of how many stores."""
        return f"RecordView({len(self):,} of {int(self._ends[-1]):,} records in {len(self.stores)} stores)"


def select(stores: Sequence[RecordStore], keep: Array) -> RecordStore | RecordView:
    """The records where ``keep``, bool over all stores, is True; the store itself when that is all of one."""
    if len(stores) == 1 and bool(keep.all()):
        return stores[0]
    return RecordView(stores, np.flatnonzero(keep))
