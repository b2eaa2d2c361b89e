"""The history of one scalar."""

from __future__ import annotations

import math
import statistics

import numpy as np
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


def test_counting_goes_on_when_values_are_no_longer_kept() -> None:
    history = filled([float(i) for i in range(1000)], max_length=10)
    assert history.count == 1000
    assert history.newest(3) == [(997.0, 997), (998.0, 998), (999.0, 999)]
    assert history.newest(0) == [] and len(history.newest(500)) == 10
    assert history.count_since(-1) == 10


def test_smoothed_is_the_median_over_iterations() -> None:
    history = ScalarHistory()
    for iteration, value in ((0, 9.0), (10, 1.0), (25, 4.0), (25, 5.0)):
        history.update(value, iteration)
    assert history.smoothed(20) == history.smoothed(20) == 4.0  # of 1, 4, 5
    assert history.smoothed(5) == 4.5 and history.smoothed(100) == 4.5
    history.update(0.0, 26)
    assert history.smoothed(20) == 2.5  # what was known before does not stay
    history.update_provisional(100.0, 27)
    assert history.smoothed(3) == 4.5
    history.drop_provisional()
    assert history.smoothed(3) == 4.0
    with pytest.raises(ValueError, match="at least 1 value, received 0"):
        history.median(0)


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


def test_dense_is_one_value_in_every_iteration() -> None:
    history = ScalarHistory(max_length=8)
    for iteration in (3, 5, 6, 7):
        history.update(0.0, iteration)
    history.update_provisional(1.0, 9)
    assert [history.is_dense(most) for most in (1, 3, 4, 5)] == [True, True, False, False]
    assert history.final_iteration() == 7
    history.update(0.0, 7)
    assert not history.is_dense(2)


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


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered")
@given(st.lists(st.sampled_from([1.0, 2.0, -3.0, 1e308, math.inf, -math.inf, math.nan]), min_size=1, max_size=8))
def test_values_that_are_not_finite_count_as_numpy_counts_them(values: list[float]) -> None:
    history = filled(values)
    assert history.median(5) == pytest.approx(float(np.median(values[-5:])), nan_ok=True)
    if not (math.isfinite(sum(map(abs, values[-5:])))):
        assert history.avg(5) == pytest.approx(float(np.mean(values[-5:])), nan_ok=True)
