"""The history of one scalar."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.events import ScalarHistory

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def filled(values: list[float], **options: int) -> ScalarHistory:
    history = ScalarHistory(**options)
    for iteration, value in enumerate(values):
        history.update(value, iteration)
    return history


@given(VALUES, st.integers(1, 60))
def test_windows(values: list[float], window: int) -> None:
    history = filled(values)
    assert history.latest() == values[-1]
    assert history.median(window) == statistics.median(values[-window:])
    assert history.avg(window) == pytest.approx(statistics.fmean(values[-window:]))
    assert history.global_avg() == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert history.values() == [(v, i) for i, v in enumerate(values)]


def test_memory_is_bounded_and_the_average_is_not() -> None:
    history = filled([float(i) for i in range(1000)], max_length=10)
    assert len(history) == 10
    assert history.values()[0] == (990.0, 990)
    assert history.global_avg() == pytest.approx(499.5)


def test_provisional_values_are_replaced() -> None:
    history = filled([1.0, 2.0])
    history.update_provisional(10.0, 2)
    assert history.latest() == 10.0
    assert history.values()[-1] == (10.0, 2)
    assert history.median(2) == 6.0
    assert history.global_avg() == pytest.approx(13 / 3)
    history.drop_provisional()
    history.update(5.0, 2)
    assert history.values() == [(1.0, 0), (2.0, 1), (5.0, 2)]


def test_count_since() -> None:
    history = filled([0.0] * 30)
    assert history.count_since(19) == 10
    assert history.count_since(-1) == 30
    assert history.count_since(29) == 0


def test_state_round_trip() -> None:
    history = filled([float(i) for i in range(50)])
    copy = ScalarHistory.from_state_dict(history.state_dict(most=20))
    assert copy.values() == history.values()[-20:]
    assert copy.global_avg() == history.global_avg()
