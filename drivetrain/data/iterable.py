"""Training on a dataset that can only be read from its beginning (torch's ``IterableDataset``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from drivetrain.errors import CheckpointError, DatasetError, DrivetrainError

from .collate import trivial_batch_collator
from .loader import check_num_workers
from .order import check_batch_size
from .processes import init_worker, worker_context, workers_of
from .randomness import derive, seeded_globals
from .worker import Failure, SampleMaker, unwrapped

__all__ = ["IterableTrainLoader"]

Mapper = Callable[..., Any]


class _EndOfStreamError(Exception):
    """There are no more records (a StopIteration would be taken for the end of the generator it passes)."""


def _next(records: Iterator[Any]) -> Any:
    try:
        return next(records)
    except StopIteration:
        raise _EndOfStreamError from None


class _MappedStream(IterableDataset[Any]):
    """The mapped samples of one pass over a dataset; ``epoch`` is set before each pass."""

    def __init__(self, dataset: IterableDataset[Any], mapper: Mapper | None, seed: int) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, 0
        self._make = SampleMaker(mapper)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        seed = derive(self.seed, self.epoch, 0 if worker is None else worker.id)
        records = iter(self.dataset)
        for position in itertools.count():
            try:
                with self._make.guard():
                    sample = self._make(partial(_next, records), seed, position)
            except _EndOfStreamError:
                return
            except DrivetrainError as error:
                yield Failure(error)
                return
            if sample is not None:
                yield sample


class IterableTrainLoader:
    """Infinite batches from an ``IterableDataset``, pass after pass.

    Which samples there are, on which rank and worker, is the dataset's decision (torch's ``get_worker_info`` and the
    process group tell it who asks). It cannot be entered in the middle: a resume reads and drops what was used before.

    Attributes:
        dataset: the dataset.
        batch_size: samples per batch on this rank.
    """

    def __init__(
        self,
        dataset: IterableDataset[Any],
        mapper: Mapper | None,
        *,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        aspect_ratio_grouping: bool = True,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        """Make the loader.

        Args:
            dataset: yields records.
            mapper: makes a sample of a record; None takes the record itself. A record it returns None for is left out.
            batch_size: samples per batch on this rank.
            seed: of the mapper's randomness; another one on each rank.
            num_workers: worker processes; each reads the dataset.
            aspect_ratio_grouping: batch samples (dicts with ``width`` and ``height``) that are wide apart from those
                that are not.
            collate_fn: joins the samples of a batch; None leaves the list of them.
        """
        self.dataset = dataset
        self.batch_size = check_batch_size(batch_size)
        self._num_workers = check_num_workers(num_workers)
        self._stream = _MappedStream(dataset, mapper, seed)
        self._grouping = aspect_ratio_grouping
        self._collate = trivial_batch_collator if collate_fn is None else collate_fn
        self._consumed = 0
        self._batches: Iterator[Any] | None = None

    def __iter__(self) -> IterableTrainLoader:
        """The loader itself: iterating again goes on."""
        return self

    def __next__(self) -> Any:
        """The next batch; DatasetError when the dataset yields nothing or a sample cannot be made."""
        if self._batches is None:
            self._batches = itertools.islice(self._grouped(), self._consumed, None)
        try:
            samples = next(self._batches)
            with seeded_globals(derive(self._stream.seed, 6, self._consumed)):  # a collate_fn may draw
                batch = self._collate(samples)
        except BaseException:
            self._batches = None
            raise
        self._consumed += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        """How many batches were handed out."""
        return {"batches": self._consumed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue after the batches of `state_dict`; CheckpointError if it is no such state."""
        try:
            self.seek(int(state["batches"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"this is not the state of a data loader: {state!r}") from error

    def seek(self, batch: int) -> None:
        """Continue at batch ``batch``; the ones before are read and dropped when iterating."""
        self._consumed, self._batches = batch, None

    def close(self) -> None:
        """Stop the workers; iterating again starts new ones."""
        self._batches = None

    def _samples(self) -> Iterator[Any]:
        for epoch in itertools.count():
            self._stream.epoch = epoch
            loader: DataLoader[Any] = DataLoader(
                self._stream,
                batch_size=None,
                num_workers=self._num_workers,
                multiprocessing_context=worker_context() if self._num_workers else None,
                worker_init_fn=init_worker,
                generator=torch.Generator(),
            )
            count = 0
            with workers_of(iter(loader)) as samples:
                for sample in samples:
                    count += 1
                    yield unwrapped(sample)
            if count == 0:
                raise DatasetError(f"the dataset {type(self.dataset).__name__} yields no sample")

    def _grouped(self) -> Iterator[list[Any]]:
        waiting: dict[bool, list[Any]] = {}
        for sample in self._samples():
            wide = self._grouping and isinstance(sample, dict) and sample["width"] > sample["height"]
            bucket = waiting.setdefault(wide, [])
            bucket.append(sample)
            if len(bucket) == self.batch_size:
                yield waiting.pop(wide)
