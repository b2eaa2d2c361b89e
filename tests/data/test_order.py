"""The order of the training stream."""

from __future__ import annotations

import time
import tracemalloc
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.order import GlobalOrder, check_batch_size, rank_slice
from drivetrain.errors import ConfigError, DatasetError


@settings(max_examples=50)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 2**40))
def test_every_sample_once_per_epoch(n: int, batch_size: int, seed: int) -> None:
    order = GlobalOrder(n, batch_size, seed)
    batches = -(-3 * n // batch_size)
    indices = np.concatenate([order.batch(i)[0] for i in range(batches)])
    positions = np.concatenate([order.batch(i)[1] for i in range(batches)])
    assert positions.tolist() == list(range(batches * batch_size))
    for epoch in range(3):
        assert sorted(indices[epoch * n : (epoch + 1) * n].tolist()) == list(range(n))


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=80),
    st.integers(1, 9),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_groups(groups: list[int], batch_size: int, seed: int, shuffle: bool) -> None:
    """Batches hold one group; each group's samples come once per its epoch; groups get their share all along."""
    order = GlobalOrder(len(groups), batch_size, seed, groups=groups, shuffle=shuffle)
    sizes = {g: groups.count(g) for g in set(groups)}
    seen: dict[int, list[int]] = defaultdict(list)
    for number in range(300):
        indices, _ = order.batch(number)
        of = {groups[i] for i in indices.tolist()}
        assert len(of) == 1
        seen[of.pop()] += indices.tolist()
        if (number + 1) % 64 == 0:
            for group, size in sizes.items():
                share = (number + 1) * size / len(groups)
                assert abs(len(seen[group]) / batch_size - share) <= 2
    for group, indices_of_group in seen.items():
        size = sizes[group]
        members = [i for i, g in enumerate(groups) if g == group]
        for start in range(0, len(indices_of_group) - size + 1, size):
            assert sorted(indices_of_group[start : start + size]) == members


def test_a_batch_is_a_pure_function_of_seed_and_number() -> None:
    groups = np.arange(1000) % 3
    walked = [GlobalOrder(1000, 16, 5, groups=groups)]
    batches = [walked[0].batch(i) for i in range(200)]
    for number in (199, 0, 64, 63, 150):
        fresh = GlobalOrder(1000, 16, 5, groups=groups).batch(number)
        assert (fresh[0] == batches[number][0]).all() and (fresh[1] == batches[number][1]).all()
    other = GlobalOrder(1000, 16, 6, groups=groups)
    assert any((other.batch(i)[0] != batches[i][0]).any() for i in range(5))
    assert (walked[0].with_seed(6).batch(3)[0] == other.batch(3)[0]).all()


def test_the_order_never_changes() -> None:
    """Values stored when this was written: a change would skip and repeat images in every run that is resumed."""
    assert GlobalOrder(100_000, 4, 7).batch(123_456)[0].tolist() == [29180, 51338, 92132, 46482]
    assert GlobalOrder(300, 4, 7, groups=np.arange(300) % 2).batch(999)[0].tolist() == [251, 203, 9, 139]
    assert GlobalOrder(50, 4, 7, repeats=np.linspace(1, 3, 50)).batch(999)[0].tolist() == [46, 23, 49, 4]


def test_the_sequence_of_groups_is_not_periodic() -> None:
    order = GlobalOrder(100, 1, 3, groups=[0] * 50 + [1] * 50)
    kinds = np.array([order.batch(i)[0][0] // 50 for i in range(640)])
    assert kinds.sum() == 320
    assert (kinds[1:] != kinds[:-1]).mean() < 0.7  # strict alternation would give 1
    blocks = {tuple(kinds[k : k + 64].tolist()) for k in range(0, 640, 64)}
    assert len(blocks) == 10


@pytest.mark.parametrize("grouped", [False, True])
def test_batch_ninety_thousand_of_a_hundred_million_costs_nothing(grouped: bool) -> None:
    n = 200_000 if grouped else 100_000_000
    order = GlobalOrder(n, 16, 1, groups=np.arange(n) % 2 if grouped else None)
    tracemalloc.start()
    start = time.perf_counter()
    order.batch(90_000)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 0.1  # some hundred microseconds; walking there would take a minute
    assert peak < 100_000


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_slices_of_the_ranks_make_up_the_batch(world_size: int) -> None:
    order = GlobalOrder(100, 8, 0)
    iterators = [order.local_batches(5, rank, world_size) for rank in range(world_size)]
    for number in (5, 6, 7):
        parts = [next(iterator) for iterator in iterators]
        whole = order.batch(number)
        assert np.concatenate([p[0] for p in parts]).tolist() == whole[0].tolist()
        assert np.concatenate([p[1] for p in parts]).tolist() == whole[1].tolist()
        assert parts[0][0].tolist() == rank_slice(whole, 0, world_size)[0].tolist()


def test_an_epoch_is_complete_when_the_number_of_ranks_changes_within_it() -> None:
    order, seen = GlobalOrder(64, 8, 0), []
    for first, last, world_size in ((0, 2, 1), (2, 3, 2), (3, 6, 4), (6, 8, 1)):
        for rank in range(world_size):
            batches = order.local_batches(first, rank, world_size)
            seen += [i for _ in range(first, last) for i in next(batches)[0].tolist()]
    assert sorted(seen) == list(range(64))


def test_repeat_factors_within_groups() -> None:
    groups = np.array([0, 0, 1, 1])
    order = GlobalOrder(4, 2, 0, groups=groups, repeats=[1.0, 3.0, 2.0, 0.0])
    assert order.epoch_length == pytest.approx(6.0)
    indices = np.concatenate([order.batch(i)[0] for i in range(3000)])
    frequencies = np.bincount(indices, minlength=4) / len(indices)
    assert np.abs(frequencies - np.array([1, 3, 2, 0]) / 6).max() < 0.005


def test_a_group_without_weight_is_left_out() -> None:
    order = GlobalOrder(3, 1, 0, groups=[0, 1, 1], repeats=[0.0, 1.0, 1.0])
    assert {int(order.batch(i)[0][0]) for i in range(50)} == {1, 2}


def test_bad_input() -> None:
    with pytest.raises(DatasetError, match="0 images"):
        GlobalOrder(0, 4, 0)
    for size in (0, -2, 1.5, True, "8", None):
        with pytest.raises(ConfigError, match=r"IMS_PER_BATCH.*not"):
            GlobalOrder(5, size, 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"6 images.*4 ranks; use 4 or 8"):
        check_batch_size(6, 4)
    with pytest.raises(ConfigError, match="2 ranks; use 2"):
        check_batch_size(1, 2)
    with pytest.raises(ValueError, match="groups has 2 entries for 3"):
        GlobalOrder(3, 1, 0, groups=[0, 1])
    with pytest.raises(ValueError, match="batch -1"):
        GlobalOrder(3, 1, 0).batch(-1)
