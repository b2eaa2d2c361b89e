"""No sample is skipped or repeated within an epoch, however the number of ranks changes in the middle of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.loader import TrainLoader
from drivetrain.data.order import GlobalOrder

seeds = st.integers(0, 2**40)
# Batches on each number of ranks, one stretch after the other: 1 -> 2 -> 4 -> 1 among them.
stretches = st.lists(st.tuples(st.sampled_from([1, 2, 4]), st.integers(1, 7)), min_size=1, max_size=6)
sizes = st.tuples(st.integers(1, 60), st.sampled_from([4, 8]))


def elastic_stream(order: GlobalOrder, plan: list[tuple[int, int]]) -> list[int]:
    """What all ranks together saw, batch after batch, with a resume wherever the number of ranks changes."""
    records, seen = list(range(order.num_samples)), []
    state: Any = None
    for ranks, batches in plan:
        loaders = [TrainLoader(records, order, rank=rank, world_size=ranks) for rank in range(ranks)]
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
        for _ in range(batches):
            seen += [sample for loader in loaders for sample in next(loader)]
        states = [loader.state_dict() for loader in loaders]
        assert all(other == states[0] for other in states)
        state = states[0]
    return seen


def epochs(stream: list[int], members: list[int]) -> list[list[int]]:
    """The stream cut into epochs: as many samples as there are members; the last one may be short."""
    return [stream[i : i + len(members)] for i in range(0, len(stream), len(members))]


def check_epochs(stream: list[int], members: list[int]) -> None:
    for part in epochs(stream, members):
        assert len(set(part)) == len(part), "a sample is repeated"
        assert set(part) <= set(members)
        if len(part) == len(members):
            assert sorted(part) == members, "a sample is skipped"


@settings(max_examples=60)
@given(sizes, seeds, stretches)
def test_every_epoch_has_every_sample_once(size: tuple[int, int], seed: int, plan: list[tuple[int, int]]) -> None:
    count, batch_size = size
    stream = elastic_stream(GlobalOrder(count, batch_size, seed), plan)
    check_epochs(stream, list(range(count)))
    total = sum(batches for _, batches in plan)
    assert stream == elastic_stream(GlobalOrder(count, batch_size, seed), [(1, total)])


@settings(max_examples=60)
@given(sizes, seeds, stretches, st.data())
def test_with_aspect_ratio_groups_in_each_group(
    size: tuple[int, int], seed: int, plan: list[tuple[int, int]], data: st.DataObject
) -> None:
    count, batch_size = size
    groups = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    stream = elastic_stream(GlobalOrder(count, batch_size, seed, groups=groups), plan)
    for start in range(0, len(stream), batch_size):
        assert len({groups[k] for k in stream[start : start + batch_size]}) == 1
    for group in set(groups):
        members = [k for k in range(count) if groups[k] == group]
        check_epochs([k for k in stream if groups[k] == group], members)


def test_one_to_two_to_four_to_one_within_one_epoch() -> None:
    order = GlobalOrder(96, 8, 11)
    stream = elastic_stream(order, [(1, 2), (2, 3), (4, 4), (1, 3)])
    assert sorted(stream) == list(range(96))


def test_orders_of_seeds_and_epochs_differ() -> None:
    """What is checked above would hold of an order without any shuffling too."""
    first, second = (elastic_stream(GlobalOrder(48, 8, seed), [(1, 12)]) for seed in (0, 1))
    assert first != second and all(a != b for a, b in pairwise(epochs(first, list(range(48)))))


@pytest.mark.parametrize("wrong", [0, 2])
def test_the_check_notices_a_skipped_and_a_repeated_batch(wrong: int) -> None:
    """A resume that is off by one batch fails it."""
    order = GlobalOrder(48, 8, 3)
    batches = [order.batch(n)[0].tolist() for n in (0, 1, 2, 3, 3 + wrong, 4 + wrong, 5 + wrong)][:6]
    with pytest.raises(AssertionError, match="repeated"):
        check_epochs(np.concatenate(batches).tolist(), list(range(48)))
