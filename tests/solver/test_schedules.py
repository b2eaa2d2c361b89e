"""Schedules against closed forms written out per iteration."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.solver.schedules import (
    Constant,
    Cosine,
    Linear,
    MultiStep,
    OneCycle,
    Schedule,
    Warmup,
    step_with_fixed_gamma,
)


def test_constant_and_linear() -> None:
    assert Constant(0.3)(0.9) == 0.3
    assert Constant()(0.0) == 1.0
    assert [Linear(1.0, 3.0)(p) for p in (0.0, 0.25, 1.0)] == [1.0, 1.5, 3.0]


def test_cosine_goes_from_start_to_end_through_the_mean() -> None:
    schedule = Cosine(1.0, 0.2)
    assert schedule(0.0) == 1.0
    assert schedule(0.5) == pytest.approx(0.6)
    assert schedule(1.0) == pytest.approx(0.2)
    assert schedule(1 / 3) == pytest.approx(0.2 + 0.8 * 0.75)  # (1 + cos 60 degrees) / 2


@given(st.integers(1, 10**7), st.data())
def test_steps_change_the_rate_at_exactly_their_iteration(max_iter: int, data: st.DataObject) -> None:
    steps = sorted(data.draw(st.sets(st.integers(1, max_iter), max_size=4)))
    schedule = MultiStep(tuple(step / max_iter for step in steps), 0.5)
    for step in steps:
        for iteration in (step - 1, step):
            passed = sum(1 for s in steps if iteration >= s)
            assert schedule(iteration / max_iter) == 0.5**passed


@given(st.integers(1, 12), st.integers(1, 2000))
def test_fixed_gamma_decays_after_equal_parts(num_decays: int, max_iter: int) -> None:
    schedule = step_with_fixed_gamma(0.5, num_decays)
    for iteration in range(0, max_iter, max(1, max_iter // 50)):
        part = iteration * (num_decays + 1) // max_iter  # in whole numbers, so exact
        assert schedule(iteration / max_iter) == 0.5**part


def test_no_decays_is_constant() -> None:
    assert step_with_fixed_gamma(0.1, 0)(0.99) == 1.0
    assert MultiStep(())(0.99) == 1.0


def test_one_cycle_rises_peaks_and_falls() -> None:
    schedule = OneCycle(start=0.1, end=0.01, peak=0.4)
    assert schedule(0.0) == pytest.approx(0.1)
    assert schedule(0.2) == pytest.approx((0.1 + 1.0) / 2)
    assert schedule(0.4) == 1.0
    assert schedule(0.7) == pytest.approx((1.0 + 0.01) / 2)
    assert schedule(1.0) == pytest.approx(0.01)
    values = [schedule(i / 100) for i in range(101)]
    assert values[:41] == sorted(values[:41])
    assert values[40:] == sorted(values[40:], reverse=True)


def test_linear_warmup_meets_the_schedule() -> None:
    # A multi-step schedule of 100 iterations with a decay at 6, behind 10 iterations of warm-up: the warm-up ends at
    # the value the schedule has there, 0.1, as detectron2's does.
    schedule = Warmup(MultiStep((0.06,), 0.1), factor=0.01, length=0.1)
    for i in range(10):
        assert schedule(i / 100) == pytest.approx(0.01 + (0.1 - 0.01) * i / 10)
    assert schedule(10 / 100) == 0.1
    flat = Warmup(MultiStep((0.5,), 0.1), factor=0.001, length=0.1)
    for i in range(10):
        assert flat(i / 100) == pytest.approx(0.001 + 0.999 * i / 10)
    assert [flat(i / 100) for i in (10, 49, 50, 99)] == [1.0, 1.0, 0.1, 0.1]


def test_warmup_over_a_cosine_follows_the_formula() -> None:
    schedule = Warmup(Cosine(1.0, 0.0), factor=0.1, length=0.2)
    end = (1 + math.cos(math.pi * 0.2)) / 2
    for i in range(50):
        p = i / 50
        expected = 0.1 + (end - 0.1) * p / 0.2 if i < 10 else (1 + math.cos(math.pi * p)) / 2
        assert schedule(p) == pytest.approx(expected)


def test_constant_warmup_jumps() -> None:
    schedule = Warmup(Constant(2.0), factor=0.25, length=0.5, method="constant")
    assert [schedule(p) for p in (0.0, 0.49, 0.5, 0.9)] == [0.5, 0.5, 2.0, 2.0]


def test_rescaled_warmup_runs_the_whole_schedule_afterwards() -> None:
    schedule = Warmup(Linear(1.0, 0.0), factor=0.0, length=0.2, rescale=True)
    assert schedule(0.1) == pytest.approx(0.5)  # half way to the schedule's first value
    assert schedule(0.2) == 1.0
    assert schedule(0.6) == pytest.approx(0.5)
    assert schedule(1.0) == pytest.approx(0.0)


@given(st.integers(2, 200_000), st.data())
def test_rescaled_steps_come_at_exactly_their_iteration(max_iter: int, data: st.DataObject) -> None:
    """In fractions: after w of n iterations, a step at s comes at the first iteration from w + s / n * (n - w) on."""
    warmup = data.draw(st.integers(0, max_iter - 1))
    step = data.draw(st.integers(1, max_iter - 1))
    schedule = Warmup(MultiStep((step / max_iter,), 0.5), 0.1, warmup / max_iter, rescale=True)
    first = math.ceil(warmup + Fraction(step, max_iter) * (max_iter - warmup))
    assert schedule(first / max_iter) == 0.5
    if first - 1 >= warmup:
        assert schedule((first - 1) / max_iter) == 1.0


def test_a_rescaled_step_that_rounding_would_move() -> None:
    # 83 / 100 of the way is 66 / 100 of the half after the warm-up, but (0.83 - 0.5) / 0.5 < 0.66 in floats.
    schedule = Warmup(MultiStep((0.66,), 0.1), 0.1, 0.5, rescale=True)
    assert [schedule(i / 100) for i in (82, 83)] == [1.0, 0.1]


@pytest.mark.parametrize("rescale", [False, True])
def test_warmup_of_no_length_and_of_all(rescale: bool) -> None:
    assert Warmup(Cosine(), 0.0, 0.0, rescale=rescale)(0.5) == pytest.approx(0.5)
    whole = Warmup(Constant(), 0.0, 1.0, rescale=rescale)
    assert whole(0.25) == 0.25
    assert whole(1.0) == 1.0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.99), st.booleans())
def test_schedules_are_pure_and_stay_in_bounds(progress: float, factor: float, length: float, rescale: bool) -> None:
    inner: list[Schedule] = [Constant(), Cosine(1.0, 0.5), MultiStep((0.3, 0.6), 0.7), OneCycle(0.3, 0.2, 0.3)]
    for schedule in inner:
        warm = Warmup(schedule, factor, length, rescale=rescale)
        assert warm(progress) == warm(progress)
        assert -1e-12 <= warm(progress) <= 1 + 1e-12


def test_schedules_are_values() -> None:
    assert Warmup(Cosine(), 0.1, 0.2) == Warmup(Cosine(), 0.1, 0.2)
    with pytest.raises(FrozenInstanceError):
        Cosine().end = 3.0  # type: ignore[misc]
