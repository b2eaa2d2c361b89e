"""Loaders: from an order of samples to batches, by worker processes, resumable at any batch."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from drivetrain.errors import CheckpointError, ConfigError, DatasetError

from .order import Batch, check_batch_size
from .pool import WorkerPool
from .processes import AtEnd
from .quarantine import Quarantine
from .samplers import InferenceSampler
from .worker import SampleSource, Task, unwrapped

__all__ = ["BatchOrder", "InferenceLoader", "TrainLoader"]

Mapper = Callable[..., Any]
CollateFn = Callable[[list[Any]], Any]


class BatchOrder(Protocol):
    """What a `TrainLoader` needs to know of the order: `GlobalOrder` and `SamplerOrder` have it."""

    num_samples: int
    batch_size: int
    seed: int

    def with_seed(self, seed: int) -> BatchOrder:
        """The same order under another seed."""
        ...

    def local_batches(self, start: int, rank: int, world_size: int) -> Iterator[Batch]:
        """One rank's parts of the global batches ``start``, ``start + 1``, ...: (indices, positions) each."""
        ...


class _Tasks:
    """Tasks from batch ``start`` on, for one rank."""

    def __init__(self, order: BatchOrder, rank: int, world_size: int) -> None:
        self.order, self.rank, self.world_size = order, rank, world_size
        self.start = 0

    def __iter__(self) -> Iterator[Task]:
        for indices, positions in self.order.local_batches(self.start, self.rank, self.world_size):
            yield Task(self.order.seed, indices, positions)


class _Running:
    """The running part of a `TrainLoader`, apart from it so that it can be ended when the loader is gone."""

    def __init__(self, source: SampleSource, num_workers: int, ahead: int) -> None:
        self._source = source
        self._pool = WorkerPool(source, num_workers, ahead) if num_workers else None
        self.batches: Iterator[Any] | None = None

    def start(self, tasks: Iterator[Task]) -> Iterator[Any]:
        """Go on with the batches of ``tasks``; workers that run already take them on."""
        if self._pool is None:
            self.batches = map(self._source.__getitems__, tasks)
        else:
            self._pool.feed(tasks)
            self.batches = self._pool
        return self.batches

    def stop(self) -> None:
        """End the workers."""
        self.batches = None
        if self._pool is not None:
            self._pool.stop()


class TrainLoader:
    """The infinite training batches of one rank.

    Iterating goes on where it stopped: the loader is its own iterator, so that a second ``iter(loader)`` continues
    and does not begin again. What a batch holds, pixels included, depends on the order's seed and the batch's number,
    and neither on the number of workers nor on how often training was interrupted. The training process's own random
    generators are not touched. A worker that dies is replaced, see `WorkerPool`.

    Attributes:
        dataset: the records.
        order: the order of samples.
        batch_size: samples per batch on this rank.
        num_workers: worker processes; 0 maps in this process.
    """

    def __init__(
        self,
        dataset: Sequence[Any],
        order: BatchOrder,
        mapper: Mapper | None = None,
        *,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        prefetch_factor: int = 2,
        collate_fn: CollateFn | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        """Make the loader; workers start with the first batch.

        Args:
            dataset: records, by index.
            order: which of them each batch holds.
            mapper: makes a sample of a record (see `drivetrain.data.worker.SampleMaker`); None takes the record itself.
            num_workers: worker processes.
            rank: of this process.
            world_size: number of processes that share each global batch.
            prefetch_factor: batches that each worker prepares ahead.
            collate_fn: joins the samples of a batch; None leaves the list of them.
            quarantine: notes images that cannot be read, for which others are taken; None makes them an error.

        Raises:
            ConfigError: the batch does not split evenly over the ranks, or a number is out of range.
            DatasetError: the order is over another number of samples than the dataset has.
        """
        if len(dataset) != order.num_samples:
            raise DatasetError(
                f"the order is over {order.num_samples} samples, but the dataset has {len(dataset)}; make it with "
                f"num_samples={len(dataset)}"
            )
        if prefetch_factor < 1:
            raise ConfigError(f"prefetch_factor must be 1 or more, not {prefetch_factor!r}")
        self.dataset = dataset
        self.batch_size = check_batch_size(order.batch_size, world_size)
        self.num_workers = check_num_workers(num_workers)
        self._note = None if quarantine is None else quarantine.add
        self._source = SampleSource(dataset, mapper, collate_fn, replace_unreadable=quarantine is not None)
        self._tasks = _Tasks(order, rank, world_size)
        self._fingerprint = _fingerprint(dataset)
        self._consumed = 0
        self._running = _Running(self._source, self.num_workers, prefetch_factor)
        self._rewind = False
        # Workers end with the loader, and at the exit of the process before it waits for its children.
        AtEnd(self, self._running.stop)

    @property
    def order(self) -> BatchOrder:
        """The order of samples."""
        return self._tasks.order

    @property
    def position(self) -> int:
        """The number of the next batch: how many were handed out (not: prefetched) since the start of the training."""
        return self._consumed

    def __iter__(self) -> TrainLoader:
        """The loader itself."""
        return self

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            DatasetError: a sample could not be made, or more images than allowed cannot be read. The batch counts as
                not handed out: the next call tries it again.
            TrainingError: worker processes died over this batch again and again.
        """
        batches = self._running.batches
        try:
            if batches is None or self._rewind:
                self._tasks.start = self._consumed
                batches = self._running.start(iter(self._tasks))
                self._rewind = False
            batch = unwrapped(next(batches), self._note)
        except DatasetError:
            self._rewind = True
            raise
        except BaseException:  # a worker may be in the middle of something: start afresh
            self.close()
            raise
        self._consumed += 1
        return batch

    def batch(self, number: int) -> Any:
        """This rank's part of global batch ``number``, made in this process; the place in the stream stays as it is.

        Raises:
            DatasetError: a sample could not be made.
        """
        order, rank, world_size = self._tasks.order, self._tasks.rank, self._tasks.world_size
        indices, positions = next(order.local_batches(number, rank, world_size))
        return unwrapped(self._source.__getitems__(Task(order.seed, indices, positions)), self._note)

    def seek(self, batch: int) -> None:
        """Continue at global batch ``batch`` (0 is the beginning); takes no time and decodes no image."""
        if batch < 0:
            raise ValueError(f"batches are numbered from 0, but batch {batch} was asked for")
        self._consumed = int(batch)
        self._rewind = True

    def state_dict(self) -> dict[str, Any]:
        """Where the training stands in its data: equal on all ranks, plain values."""
        state: dict[str, Any] = {
            "batches": self._consumed,
            "seed": self.order.seed,
            "batch_size": self.order.batch_size,
            "num_samples": self.order.num_samples,
        }
        return {**state, "fingerprint": self._fingerprint} if self._fingerprint else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, on any number of ranks and workers, under the seed of that run.

        With another batch size, continues after as many samples as were seen. If the dataset has changed, the order
        cannot be continued exactly, which is logged; where its files lie does not matter.

        Raises:
            CheckpointError: the state is not one of a loader.
        """
        try:
            batches, seed, batch_size, num_samples = (
                int(state[k]) for k in ("batches", "seed", "batch_size", "num_samples")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"this is not the state of a data loader: {state!r}") from error
        if num_samples != self.order.num_samples:
            logging.getLogger(__name__).warning(
                "the training dataset had %d images when the checkpoint was written and has %d now: the order of "
                "images does not continue exactly",
                num_samples,
                self.order.num_samples,
            )
        elif state.get("fingerprint", self._fingerprint) != self._fingerprint:
            logging.getLogger(__name__).warning(
                "the training dataset has as many images as when the checkpoint was written, but other ones, or in "
                "another order, or with other annotations"
            )
        if seed != self.order.seed:
            self._tasks.order = self.order.with_seed(seed)
        self.seek(batches * batch_size // self.order.batch_size)

    def close(self) -> None:
        """Stop the workers; iterating again starts new ones at the same place."""
        self._running.stop()


class InferenceLoader(DataLoader[Any]):
    """Batches of every record once, in order: this rank's contiguous block of them.

    Mappers that draw random numbers draw the same for a record each time, and the process's own generators stay
    untouched. A worker that dies is replaced; an image that cannot be read is an error.
    """

    def __init__(
        self,
        dataset: Sequence[Any],
        mapper: Mapper | None,
        *,
        sampler: Sampler[int] | None = None,
        batch_size: int = 1,
        num_workers: int = 0,
        collate_fn: CollateFn | None = None,
    ) -> None:
        """Make the loader.

        Args:
            dataset: records, by index.
            mapper: makes a sample of a record; None takes the record itself.
            sampler: the indices of this rank; None is `InferenceSampler`.
            batch_size: samples per batch.
            num_workers: worker processes.
            collate_fn: joins the samples of a batch; None leaves the list of them.

        Raises:
            ConfigError: the batch size or the number of workers is out of range.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(
                f"the batch size of evaluation (TEST.IMS_PER_BATCH) must be an integer of 1 or more, not {batch_size!r}"
            )
        with warnings.catch_warnings():  # of more workers than cores, which the config's default has on small machines
            warnings.filterwarnings("ignore", "This DataLoader will create")
            super().__init__(
                SampleSource(dataset, mapper, collate_fn),  # type: ignore[arg-type]
                sampler=InferenceSampler(len(dataset)) if sampler is None else sampler,
                batch_size=batch_size,
                num_workers=check_num_workers(num_workers),
                collate_fn=_as_is,
                generator=torch.Generator(),  # else each iter() draws from the training's own
            )

    def batch(self, number: int) -> Any:
        """Batch ``number`` of this rank, made in this process; an IndexError after the last one.

        Raises:
            DatasetError: a sample could not be made.
        """
        indices = next(islice(iter(self.batch_sampler), number, None), None)  # type: ignore[arg-type]
        if indices is None:
            raise IndexError(f"there is no batch {number}: this rank has {len(self)}")
        return unwrapped(self.collate_fn(self.dataset.__getitems__(indices)))  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches; DatasetError when a sample cannot be made."""
        if self.num_workers == 0:
            yield from map(unwrapped, super().__iter__())
            return
        pool = WorkerPool(self.dataset, self.num_workers, self.prefetch_factor or 2)  # type: ignore[arg-type]
        stop = AtEnd(None, pool.stop)  # with this block, or with the process
        try:
            pool.feed(iter(self.batch_sampler))  # type: ignore[arg-type]
            yield from map(unwrapped, pool)
        finally:
            stop()


def _fingerprint(dataset: Any) -> str:
    """A digest of sizes and numbers of objects of all records; "" for a dataset that has no arrays of them."""
    columns = [getattr(dataset, name, None) for name in ("widths", "heights", "num_objects")]
    if any(column is None for column in columns):
        return ""
    return hashlib.sha256(b"".join(np.asarray(column, dtype=np.int64).tobytes() for column in columns)).hexdigest()[:16]


def check_num_workers(num_workers: int) -> int:
    """``num_workers`` if it is an integer of 0 or more, otherwise a ConfigError."""
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise ConfigError(
            f"the number of loader processes (DATALOADER.NUM_WORKERS) must be an integer of 0 or more, not "
            f"{num_workers!r}"
        )
    return num_workers


def _as_is(batch: Any) -> Any:
    """The batch that `SampleSource` made already."""
    return batch
