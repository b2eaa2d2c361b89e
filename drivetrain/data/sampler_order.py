"""The order of samples that a user's torch sampler stands for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from drivetrain.errors import ConfigError, DatasetError

from .order import Batch, check_batch_size
from .randomness import derive, seeded_globals

__all__ = ["SamplerOrder"]

_CHUNK = 256


class SamplerOrder:
    """Batches of the indices that a sampler yields, on each rank for itself.

    The sampler is asked for this rank's indices, as detectron2 does; when it ends it is started again (after
    ``set_epoch`` where it has that, as ``DistributedSampler`` does). While it is asked, the global random generators
    are seeded from (seed, rank, epoch), so that it yields the same again after a resume, which walks through it
    without decoding any image. A sampler that keeps a generator of its own is the one thing that cannot be taken
    back.

    Attributes:
        num_samples: size of the dataset.
        batch_size: samples per global batch, over all ranks.
        seed: of samplers that draw from the global generators, and of the samples' augmentation.
    """

    def __init__(
        self,
        sampler: Iterable[int],
        num_samples: int,
        batch_size: int,
        seed: int,
        *,
        groups: Sequence[int] | np.ndarray[Any, Any] | None = None,
    ) -> None:
        """Define the order.

        Args:
            sampler: yields indices into the dataset.
            num_samples: size of the dataset.
            batch_size: samples per global batch.
            seed: any integer.
            groups: a group number for each sample; samples wait until one group fills a batch.
        """
        check_batch_size(batch_size)
        self.num_samples, self.batch_size, self.seed = num_samples, int(batch_size), int(seed)
        self._sampler = sampler
        self._groups = None if groups is None else np.asarray(groups)

    def with_seed(self, seed: int) -> SamplerOrder:
        """The same sampler under another seed."""
        return SamplerOrder(self._sampler, self.num_samples, self.batch_size, seed, groups=self._groups)

    def local_batches(self, start: int, rank: int, world_size: int) -> Iterator[Batch]:
        """One rank's batches ``start``, ``start + 1``, ...: (indices, positions) each, int64.

        Raises:
            DatasetError: the sampler yields nothing.
            ConfigError: it yields something that is no index into the dataset.
        """
        size = check_batch_size(self.batch_size, world_size)
        offsets = rank * size + np.arange(size, dtype=np.int64)
        for number, indices in enumerate(self._grouped(self._indices(rank), size)):
            if number >= start:
                yield np.array(indices, dtype=np.int64), number * self.batch_size + offsets

    def _indices(self, rank: int) -> Iterator[int]:
        for epoch in itertools.count():
            if hasattr(self._sampler, "set_epoch"):
                self._sampler.set_epoch(epoch)
            indices = iter(self._sampler)
            for chunk in itertools.count():
                with seeded_globals(derive(self.seed, 5, rank, epoch, chunk)):
                    drawn = list(itertools.islice(indices, _CHUNK))
                if not drawn:
                    break
                yield from map(self._checked, drawn)
            if chunk == 0:
                raise DatasetError(f"the sampler {type(self._sampler).__name__} yields no index")

    def _checked(self, index: Any) -> int:
        try:
            value = int(index)
        except (TypeError, ValueError):
            raise ConfigError(
                f"a sampler must yield one index at a time, but {type(self._sampler).__name__} yields {index!r}; "
                "the loader makes the batches"
            ) from None
        if not 0 <= value < self.num_samples:
            raise ConfigError(
                f"the sampler {type(self._sampler).__name__} yields index {value} for a dataset of "
                f"{self.num_samples} samples"
            )
        return value

    def _grouped(self, indices: Iterator[int], size: int) -> Iterator[list[int]]:
        waiting: dict[int, list[int]] = {}
        for index in indices:
            group = 0 if self._groups is None else int(self._groups[index])
            bucket = waiting.setdefault(group, [])
            bucket.append(index)
            if len(bucket) == size:
                yield waiting.pop(group)
