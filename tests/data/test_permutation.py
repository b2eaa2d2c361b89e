"""Permutations that are computed, not stored."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.permutation import RandomPermutation


@settings(max_examples=60)
@given(st.integers(1, 5000), st.integers(0, 2**63), st.integers(0, 10**6))
def test_every_element_comes_exactly_once(n: int, seed: int, epoch: int) -> None:
    taken = RandomPermutation(n, seed, epoch).take(np.arange(n))
    assert (np.sort(taken) == np.arange(n)).all()


@settings(max_examples=30)
@given(st.integers(1025, 10**9), st.integers(0, 2**40), st.data())
def test_random_access_equals_access_in_bulk(n: int, seed: int, data: st.DataObject) -> None:
    order = RandomPermutation(n, seed)
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)), dtype=np.int64)
    taken = order.take(places)
    assert ((taken >= 0) & (taken < n)).all()
    assert [order[int(p)] for p in places] == taken.tolist()
    assert len(set(taken.tolist())) == len(set(places.tolist()))


def test_all_orders_of_four_are_equally_likely() -> None:
    counts = Counter(tuple(RandomPermutation(4, 0, e).take(np.arange(4)).tolist()) for e in range(4800))
    assert set(counts) == set(permutations(range(4)))
    chi_square = sum((c - 200) ** 2 / 200 for c in counts.values())
    assert chi_square < 57  # 23 degrees of freedom: exceeded once in ten thousand


@pytest.mark.parametrize("n", [1500, 10_007])
def test_feistel_puts_elements_anywhere(n: int) -> None:
    """First element over many keys, and displacement within one permutation, as from a uniform shuffle."""
    firsts = np.array([RandomPermutation(n, 1, epoch)[0] for epoch in range(2000)])
    counts = np.bincount(firsts * 20 // n, minlength=20)
    assert ((counts - 100.0) ** 2 / 100).sum() < 50  # 19 degrees of freedom
    taken = RandomPermutation(n, 2).take(np.arange(n))
    assert abs(np.corrcoef(taken, np.arange(n))[0, 1]) < 0.1
    assert (np.abs(np.diff(taken)) == 1).mean() < 0.01  # neighbours are torn apart


def test_keys_make_different_orders() -> None:
    orders = [RandomPermutation(2000, *key).take(np.arange(2000)) for key in ((0, 0), (0, 1), (1, 0))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (orders[a] == orders[b]).mean() < 0.01


def test_memory_does_not_grow_with_n() -> None:
    tracemalloc.start()
    RandomPermutation(10**12, 3).take(np.arange(0, 10**12, 10**11))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="n=0"):
        RandomPermutation(0, 1)
    with pytest.raises(IndexError, match="10 elements"):
        RandomPermutation(10, 1).take(np.array([10]))
    with pytest.raises(IndexError):
        RandomPermutation(10, 1)[-1]
