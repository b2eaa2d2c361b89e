"""What turns a place in the order into a sample, in the training process or in a loader's worker process."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

from drivetrain.errors import DatasetError, DrivetrainError

from .collate import trivial_batch_collator
from .images import UnreadableImageError
from .quarantine import BadImage
from .randomness import derive, generator, preserved_globals, seed_globals

__all__ = ["Failure", "Repaired", "SampleMaker", "SampleSource", "Task", "unwrapped"]

Mapper = Callable[..., Any]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
_ATTEMPTS = 100
_NAMED = 10  # files in a message


@dataclass(frozen=True)
class Task:
    """The samples of one batch: which records, and the places in the stream that their randomness is derived from."""

    seed: int
    indices: IntArray
    positions: IntArray


@dataclass(frozen=True)
class Failure:
    """An error of this package that comes back from a worker in place of a batch, so that it is raised unchanged."""

    error: DrivetrainError


@dataclass(frozen=True)
class Repaired:
    """A batch, or the failure to make one, with the images that could not be read and were replaced."""

    batch: Any
    bad: tuple[BadImage, ...]


class SampleMaker:
    """Calls a mapper such that its randomness is a function of (seed, position).

    A mapper with a parameter ``rng`` is given a generator. As code of users also draws from the global generators of
    Python, NumPy and PyTorch, these are seeded for each call, except for a mapper that says by ``pure`` that it never
    touches them; calls are made within `guard`, which puts their states back.
    """

    def __init__(self, mapper: Mapper | None) -> None:
        """Use ``mapper``; None leaves the records as they are."""
        self._mapper = mapper
        self._pure = bool(getattr(mapper, "pure", False))
        self._takes_rng = mapper is not None and _has_rng(mapper)

    @property
    def pure(self) -> bool:
        """Whether the mapper draws from its generator only and leaves its record as it is."""
        return self._pure

    def guard(self) -> AbstractContextManager[None]:
        """The block to make samples in: one or many, as saving the generators takes longer than seeding them."""
        return nullcontext() if self._pure else _preserved_here()

    def __call__(self, get: Callable[[], Any], seed: int, position: int) -> Any:
        """The mapped sample of the record that ``get`` returns, at ``position`` of the stream of ``seed``."""
        if not self._pure:
            seed_globals(derive(seed, position, 2))
        return self._map(get(), seed, position)

    def _map(self, record: Any, seed: int, position: int) -> Any:
        if self._mapper is None:
            return record
        if self._takes_rng:
            return self._mapper(record, rng=generator(seed, position))
        return self._mapper(record)


class SampleSource:
    """A dataset and its mapper: makes whole batches, as the "dataset" of torch's ``DataLoader`` does."""

    def __init__(
        self,
        records: Sequence[Any],
        mapper: Mapper | None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        replace_unreadable: bool = False,
    ) -> None:
        """Prepare to make samples.

        Args:
            records: by index.
            mapper: makes a sample of a record; one that it returns None for is replaced by another record.
            collate_fn: joins the samples of a batch; None leaves the list of them.
            replace_unreadable: replace those for which it raises `UnreadableImageError` in the same way.
        """
        self.records = records
        self._replaced = UnreadableImageError if replace_unreadable else ()
        self.make = SampleMaker(mapper)
        self._collate = trivial_batch_collator if collate_fn is None else collate_fn
        # Records of a list are the user's own objects, and mappers are known to change what they are given.
        self._copies = isinstance(records, (list, tuple)) and not self.make.pure

    def __len__(self) -> int:
        """The number of records."""
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        """The sample of one record, with randomness fixed by its index."""
        with self.make.guard():
            return self._sample(0, index, index, [])

    def __getitems__(self, task: Task | list[int]) -> Any:
        """The batch of ``task`` (or of plain indices, with randomness fixed by index), for `unwrapped`."""
        if not isinstance(task, Task):
            indices = np.asarray(task, dtype=np.int64)
            task = Task(0, indices, indices)
        places = zip(task.indices.tolist(), task.positions.tolist(), strict=True)
        bad: list[BadImage] = []
        try:
            with self.make.guard():
                samples = [self._sample(task.seed, index, position, bad) for index, position in places]
            batch = self._joined(samples, task)
        except DrivetrainError as error:
            batch = Failure(error)
        return Repaired(batch, tuple(bad)) if bad else batch

    def describe(self, task: Task | list[int]) -> str:
        """The files (else the indices) of a task's records, for a message."""
        indices = task.indices.tolist() if isinstance(task, Task) else task
        names = [self._identity(index)[0] for index in indices]
        return ", ".join(map(repr, names[:_NAMED])) + (
            f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        )

    def _joined(self, samples: list[Any], task: Task) -> Any:
        if self._collate is trivial_batch_collator:
            return samples
        with _preserved_here():  # it may be one that mixes images at random
            seed_globals(derive(task.seed, 6, *task.positions[:1].tolist()))
            return self._collate(samples)

    def _sample(self, seed: int, index: int, position: int, bad: list[BadImage]) -> Any:
        """The sample at ``position``: of ``index``, or of another record if that one gives none.

        Images that could not be read are added to ``bad``.
        """
        for attempt in range(_ATTEMPTS):
            chosen = index if attempt == 0 else derive(seed, position, 3, attempt) % len(self.records)
            branch = seed if attempt == 0 else derive(seed, 4, attempt)
            try:
                sample = self.make(partial(self._record, chosen), branch, position)
            except self._replaced as error:
                bad.append(BadImage(*self._identity(chosen), str(error)))
                continue
            if sample is not None:
                return sample
        raise DatasetError(
            f"the mapper returned None for record {index} and for {_ATTEMPTS - 1} others tried in its place"
            if not bad
            else f"there is no usable image in place of record {index}: {_ATTEMPTS - 1} others were tried"
        )

    def _identity(self, index: int) -> tuple[str, int | str | None]:
        """The file of a record and the image's id; its index if it has no file name."""
        record: Any = None
        with suppress(Exception):  # a dataset that reads the image itself
            record = self.records[index]
        if not isinstance(record, Mapping) or "file_name" not in record:
            return f"record {index}", None
        return str(record["file_name"]), record.get("image_id")

    def _record(self, index: int) -> Any:
        record = self.records[index]
        return copy.deepcopy(record) if self._copies else record


def unwrapped(batch: Any, note: Callable[[Sequence[BadImage]], None] | None = None) -> Any:
    """The batch that a `SampleSource` made; if it is a `Failure`, its error is raised.

    Args:
        batch: what came from the source.
        note: called before that with the images that were replaced, if any were.
    """
    if isinstance(batch, Repaired):
        if note is not None:
            note(batch.bad)
        batch = batch.batch
    if isinstance(batch, Failure):
        raise batch.error
    return batch


def _preserved_here() -> AbstractContextManager[None]:
    """A block that leaves the global generators as they were, except in a worker, where they are nobody else's."""
    return preserved_globals() if get_worker_info() is None else nullcontext()


def _has_rng(mapper: Mapper) -> bool:
    try:
        return "rng" in inspect.signature(mapper).parameters
    except (TypeError, ValueError):  # a builtin, whose signature is unknown
        return False
