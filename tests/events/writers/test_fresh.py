"""Which scalars a writer gets."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.errors import UserInputError
from drivetrain.events import EventStorage
from drivetrain.events.writers.fresh import FreshScalars, is_evaluation


def test_a_smoothed_scalar_is_its_median_over_the_last_iterations() -> None:
    fresh = FreshScalars(window_size=5)
    with EventStorage() as storage:
        for storage.iter in range(20):
            storage.put_scalar("loss", float(storage.iter**2))
    assert fresh.read(storage) == [(19, {"loss": 17.0**2})]  # the median of 15..19, squared


def test_the_window_counts_iterations_not_values() -> None:
    fresh = FreshScalars(window_size=20)
    with EventStorage() as storage:
        for storage.iter in range(0, 60, 10):
            storage.put_scalar("rare_loss", float(storage.iter))
    # Within 20 iterations before 50 there are 40 and 50 (and not six values).
    [(iteration, scalars)] = fresh.read(storage)
    assert iteration == 50
    assert scalars["rare_loss"] == statistics.median([40.0, 50.0])


def test_rare_unsmoothed_scalars_all_come_and_dense_ones_only_newest() -> None:
    fresh = FreshScalars()
    with EventStorage() as storage:
        for storage.iter in range(20):
            storage.put_scalar("lr", 0.1 * storage.iter, smoothing_hint=False)
            if storage.iter in (4, 9, 17):
                storage.put_scalar("bbox/AP", float(storage.iter), smoothing_hint=False)
    assert fresh.read(storage) == [
        (4, {"bbox/AP": 4.0}),
        (9, {"bbox/AP": 9.0}),
        (17, {"bbox/AP": 17.0}),
        (19, {"lr": 0.1 * 19}),
    ]


def test_nothing_comes_twice_and_another_storage_starts_anew() -> None:
    fresh = FreshScalars()
    with EventStorage() as first:
        first.put_scalar("a", 1.0)
    assert len(fresh.read(first)) == 1
    assert fresh.read(first) == []
    with EventStorage(7) as second:
        second.put_scalar("a", 2.0)
    assert fresh.read(second) == [(7, {"a": 2.0})]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20, unique=True), st.integers(1, 10))
def test_each_rare_scalar_comes_exactly_once_however_writes_fall(iterations: list[int], period: int) -> None:
    fresh = FreshScalars()
    seen: list[tuple[int, float]] = []
    with EventStorage() as storage:
        for storage.iter in range(31):
            if storage.iter in iterations and storage.iter % 2 == 0:  # gaps, so that it counts as rare
                storage.put_scalar("e/AP", float(storage.iter), smoothing_hint=False)
            if storage.iter % period == 0 or storage.iter == 30:
                seen += [(i, s["e/AP"]) for i, s in fresh.read(storage)]
    assert seen == [(i, float(i)) for i in sorted(iterations) if i % 2 == 0]


def test_of_two_values_in_one_iteration_the_last_one_comes() -> None:
    fresh = FreshScalars()
    with EventStorage() as storage:
        for iteration, value in [(0, 1.0), (2, 2.0), (2, 3.0)]:  # two steps apart, three values: not dense
            storage.put_scalar("e/AP", value, smoothing_hint=False, cur_iter=iteration)
    assert fresh.read(storage) == [(0, {"e/AP": 1.0}), (2, {"e/AP": 3.0})]


def test_one_that_falls_far_behind_gets_the_newest() -> None:
    fresh = FreshScalars()
    with EventStorage() as storage:
        storage.put_scalar("a", -1.0)
        fresh.by_name(storage)
        for storage.iter in range(50_000):
            storage.put_scalar("a", float(storage.iter))
    assert fresh.by_name(storage) == {"a": [(float(i), i) for i in range(40_000, 50_000)]}


def test_by_name_and_by_some_names() -> None:
    fresh = FreshScalars()
    with EventStorage() as storage:
        for storage.iter in range(2):
            storage.put_scalars(a=1.0, b=2.0)
    assert fresh.by_name(storage, ["b"]) == {"b": [(2.0, 0), (2.0, 1)]}
    assert fresh.by_name(storage) == {"a": [(1.0, 0), (1.0, 1)]}
    assert fresh.by_name(storage) == {}


def test_what_counts_as_evaluation() -> None:
    with EventStorage() as storage:
        storage.put_scalar("bbox/AP", 1.0, smoothing_hint=False)
        storage.put_scalar("roi_head/num_fg", 1.0)
        storage.put_scalar("lr", 1.0, smoothing_hint=False)
    assert [is_evaluation(storage, n) for n in ("bbox/AP", "roi_head/num_fg", "lr")] == [True, False, False]


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_without_iterations_is_refused_at_once(window: int) -> None:
    with pytest.raises(UserInputError, match=f"window_size is {window}: give 1 or more"):
        FreshScalars(window)
