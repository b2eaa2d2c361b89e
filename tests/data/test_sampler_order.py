"""The order that a user's sampler stands for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from drivetrain.data.order import Batch
from drivetrain.data.sampler_order import SamplerOrder
from drivetrain.errors import ConfigError, DatasetError


def batches(order: SamplerOrder, start: int, count: int, rank: int = 0, world_size: int = 1) -> list[list[int]]:
    found: Iterator[Batch] = order.local_batches(start, rank, world_size)
    return [indices.tolist() for indices, _ in islice(found, count)]


def test_a_finite_sampler_is_started_again() -> None:
    order = SamplerOrder(SequentialSampler(range(5)), 5, 2, 0)
    assert batches(order, 0, 5) == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]
    positions = [p.tolist() for _, p in islice(order.local_batches(3, 0, 1), 2)]
    assert positions == [[6, 7], [8, 9]]


@pytest.mark.parametrize("kind", ["random", "weighted"])
def test_random_samplers_yield_the_same_after_a_resume_and_leave_the_process_alone(kind: str) -> None:
    def sampler() -> Sampler[int]:
        if kind == "random":
            return RandomSampler(range(30))
        return WeightedRandomSampler([1.0] * 29 + [9.0], 30)

    torch.manual_seed(1)
    order = SamplerOrder(sampler(), 30, 4, seed=3)
    whole = batches(order, 0, 30)
    torch.manual_seed(2)
    expected = torch.rand(())
    torch.manual_seed(2)
    assert batches(SamplerOrder(sampler(), 30, 4, seed=3), 17, 13) == whole[17:]
    assert torch.rand(()) == expected
    assert batches(order.with_seed(4), 0, 30) != whole
    flat = [i for batch in whole for i in batch]
    if kind == "random":
        assert all(sorted(flat[e * 30 : e * 30 + 30]) == list(range(30)) for e in range(4))
        assert flat[:30] != flat[30:60]
    else:
        assert flat.count(29) > 10  # 27 expected of 120; an unweighted sampler gives 4


def test_ranks() -> None:
    """A distributed sampler is told the epoch; positions of the ranks interleave as in a global batch."""
    parts = [DistributedSampler(range(12), num_replicas=2, rank=r, shuffle=True, seed=0) for r in range(2)]
    orders = [SamplerOrder(part, 12, 4, 0) for part in parts]
    for epoch in range(3):
        both = [batches(order, epoch * 3, 3, rank, 2) for rank, order in enumerate(orders)]
        assert sorted(i for batch in both[0] + both[1] for i in batch) == list(range(12))
    assert batches(orders[0], 0, 3, 0, 2) != batches(orders[0], 3, 3, 0, 2)
    positions = [next(order.local_batches(2, rank, 2))[1].tolist() for rank, order in enumerate(orders)]
    assert positions == [[8, 9], [10, 11]]
    own = SamplerOrder(RandomSampler(range(100)), 100, 4, 0)
    assert batches(own, 0, 5, 0, 2) != batches(own, 0, 5, 1, 2)


def test_groups_wait_until_a_batch_is_full() -> None:
    order = SamplerOrder(SequentialSampler(range(6)), 6, 2, 0, groups=np.array([0, 1, 0, 1, 1, 0]))
    assert batches(order, 0, 6) == [[0, 2], [1, 3], [5, 0], [4, 1], [3, 4], [2, 5]]


class Yields(Sampler[int]):
    """A sampler that yields what it is told to."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)


def test_bad_samplers() -> None:
    with pytest.raises(DatasetError, match="Yields yields no index"):
        batches(SamplerOrder(Yields(), 5, 2, 0), 0, 1)
    for value in (5, -1):
        with pytest.raises(ConfigError, match=f"index {value} for a dataset of 5"):
            batches(SamplerOrder(Yields(value), 5, 1, 0), 0, 1)
    with pytest.raises(ConfigError, match="one index at a time"):
        batches(SamplerOrder(BatchSampler(SequentialSampler(range(5)), 2, False), 5, 2, 0), 0, 1)
    with pytest.raises(ConfigError, match="IMS_PER_BATCH"):
        SamplerOrder(Yields(1), 5, 0, 0)
