"""Lengths in iterations and epochs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.errors import ConfigError
from drivetrain.solver.length import check_length, parse_length


@pytest.mark.parametrize(
    ("value", "iterations"),
    [
        (40000, 40000),
        (0, 0),
        ("300", 300),
        (" 300 ", 300),
        ("1ep", 13),  # 100 images in batches of 8: 12.5
        ("2ep", 25),
        ("12 epochs", 150),
        ("1 epoch", 13),
        ("0.5ep", 7),
        (".08ep", 1),
        ("0ep", 0),
    ],
)
def test_lengths(value: Any, iterations: int) -> None:
    assert parse_length(value, samples=100, batch=8) == iterations


@given(st.integers(0, 1000), st.integers(1, 10**9), st.integers(1, 4096))
def test_epochs_are_the_fewest_iterations_that_show_every_image_that_often(
    epochs: int, samples: int, batch: int
) -> None:
    iterations = parse_length(f"{epochs}ep", samples, batch)
    assert iterations * batch >= epochs * samples
    assert iterations == 0 or (iterations - 1) * batch < epochs * samples


@pytest.mark.parametrize("value", [-1, True, 1.5, None, "", "ep", "-1ep", "1.5", "12 eggs", "1e3", "٣ep", [1]])
def test_what_is_no_length(value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        parse_length(value, 10, 2, name="SOLVER.MAX_ITER")
    assert str(error.value) == (f"SOLVER.MAX_ITER must be iterations (40000) or epochs ('12ep'), received {value!r}")
    with pytest.raises(ValueError, match="must be iterations"):
        check_length(value)


def test_epochs_need_a_training_set() -> None:
    with pytest.raises(ConfigError, match=r"a length is '2ep', which becomes iterations only where the size"):
        parse_length("2ep")
    with pytest.raises(ConfigError, match=r"X is '2ep', but of 0 images in batches of 4 there is no epoch"):
        parse_length("2ep", 0, 4, name="X")
    assert parse_length(7) == 7


def test_least_lengths() -> None:
    check_length(0)
    check_length("0.01ep", least=1)
    check_length(5, least=5)
    check_length("1ep", least=1000)
    for value, least in ((0, 1), ("0", 1), ("0ep", 1), (4, 5)):
        with pytest.raises(ValueError, match=f"must be at least {least}, received"):
            check_length(value, least=least)
