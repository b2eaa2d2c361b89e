"""What turns a place in the order into a sample, in the training process or in a loader's worker process."""

from __future__ import annotations

import copy
import ctypes
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

import numpy as np
from torch.utils.data import get_worker_info

from drivetrain.errors import DatasetError, DrivetrainError

from .collate import trivial_batch_collator
from .packing import PackedBatch, pack, unpack
from .randomness import derive, generator, seed_globals, seeded_globals

__all__ = ["Failure", "SampleMaker", "SampleSource", "Task", "ending", "init_worker", "stop_workers", "unwrapped"]

Mapper = Callable[..., Any]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
_ATTEMPTS = 100
_GRACE = 60  # seconds that a worker goes on after SIGTERM


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


class SampleMaker:
    """Calls a mapper such that its randomness is a function of (seed, position).

    A mapper with a parameter ``rng`` is given a generator. As code of users also draws from the global generators of
    Python, NumPy and PyTorch, these are seeded for the call and put back after it, except for a mapper that says by
    ``pure`` that it never touches them.
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

    def __call__(self, get: Callable[[], Any], seed: int, position: int) -> Any:
        """The mapped sample of the record that ``get`` returns, at ``position`` of the stream of ``seed``."""
        if self._pure:
            return self._map(get(), seed, position)
        branch = derive(seed, position, 2)
        if get_worker_info() is not None:  # a process of its own: nothing to put back
            seed_globals(branch)
            return self._map(get(), seed, position)
        with seeded_globals(branch):
            return self._map(get(), seed, position)

    def _map(self, record: Any, seed: int, position: int) -> Any:
        if self._mapper is None:
            return record
        if self._takes_rng:
            return self._mapper(record, rng=generator(seed, position))
        return self._mapper(record)


class SampleSource:
    """A dataset and its mapper, as the "dataset" that torch's ``DataLoader`` fetches whole batches from."""

    def __init__(
        self,
        records: Sequence[Any],
        mapper: Mapper | None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        """Map ``records[i]`` by ``mapper`` and join the samples of a batch by ``collate_fn`` (None: as a list)."""
        self.records = records
        self.make = SampleMaker(mapper)
        self._collate = trivial_batch_collator if collate_fn is None else collate_fn
        # Records of a list are the user's own objects, and mappers are known to change what they are given.
        self._copies = isinstance(records, (list, tuple)) and not self.make.pure

    def __len__(self) -> int:
        """The number of records."""
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        """The sample of one record, with randomness fixed by its index."""
        return self._sample(0, index, index)

    def __getitems__(self, task: Task | list[int]) -> Any:
        """The batch of ``task`` (or of plain indices, with randomness fixed by index), or a `Failure`.

        In a worker process the batch is packed (see `drivetrain.data.packing`).
        """
        if not isinstance(task, Task):
            indices = np.asarray(task, dtype=np.int64)
            task = Task(0, indices, indices)
        places = zip(task.indices.tolist(), task.positions.tolist(), strict=True)
        try:
            batch = self._collate([self._sample(task.seed, index, position) for index, position in places])
        except DrivetrainError as error:
            return Failure(error)
        return batch if get_worker_info() is None else pack(batch)

    def _sample(self, seed: int, index: int, position: int) -> Any:
        """The sample at ``position``: of ``index``, or of another record if the mapper returns None for it."""
        for attempt in range(_ATTEMPTS):
            chosen = index if attempt == 0 else derive(seed, position, 3, attempt) % len(self.records)
            branch = seed if attempt == 0 else derive(seed, 4, attempt)
            sample = self.make(partial(self._record, chosen), branch, position)
            if sample is not None:
                return sample
        raise DatasetError(
            f"the mapper returned None for record {index} and for {_ATTEMPTS - 1} others tried in its place"
        )

    def _record(self, index: int) -> Any:
        record = self.records[index]
        return copy.deepcopy(record) if self._copies else record


def unwrapped(batch: Any) -> Any:
    """The batch that a `SampleSource` made, unpacked; if it is a `Failure`, its error is raised."""
    if isinstance(batch, Failure):
        raise batch.error
    return unpack(batch) if isinstance(batch, PackedBatch) else batch


def stop_workers(batches: Any) -> None:
    """End the worker processes of a ``DataLoader``'s iterator now, if it has any.

    Dropping the last reference would do, but a traceback may hold one; and when the iterator is then found by the
    cyclic garbage collector, its queues are gone before it and the workers have to be waited for and killed.
    """
    shutdown = getattr(batches, "_shutdown_workers", None)
    if shutdown is not None:
        shutdown()


@contextmanager
def ending(batches: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """Use a ``DataLoader``'s iterator in a block and end its workers after it, or with this process."""
    finalizer = Finalize(None, stop_workers, args=(batches,), exitpriority=1)
    try:
        yield batches
    finally:
        finalizer()


def _has_rng(mapper: Mapper) -> bool:
    try:
        return "rng" in inspect.signature(mapper).parameters
    except (TypeError, ValueError):  # a builtin, whose signature is unknown
        return False


def init_worker(worker_id: int) -> None:
    """Prepare a worker process; torch's ``DataLoader`` calls it at its start.

    Signals that ask the training to stop reach the whole process group. The training process decides what they
    mean; workers go on, so that it can end at a step boundary, and end with it: they notice when it is gone.
    """
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _first_term)
    _keep_memory()


def _first_term(number: int, frame: FrameType | None) -> None:
    """Outlive one SIGTERM, which the training process has got too, but not for ever; the next one ends this process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_GRACE)


def _keep_memory() -> None:
    """Tell glibc to keep freed memory of image size: returning it and faulting it in anew costs up to half the time."""
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(-3, 256 << 20)  # M_MMAP_THRESHOLD
    mallopt(-1, 512 << 20)  # M_TRIM_THRESHOLD
