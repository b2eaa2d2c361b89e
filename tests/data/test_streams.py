"""Infinite sequences of sample indices."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.streams import RepeatStream, ShuffledStream


@settings(max_examples=50)
@given(st.integers(1, 50), st.integers(0, 2**40), st.integers(0, 1000))
def test_each_epoch_has_every_sample_once(n: int, seed: int, epoch: int) -> None:
    stream = ShuffledStream(n, seed)
    taken = stream.at(np.arange(epoch * n, (epoch + 1) * n))
    assert sorted(taken.tolist()) == list(range(n))


def test_epochs_differ_and_unshuffled_ones_do_not() -> None:
    stream = ShuffledStream(100, 0)
    assert (stream.at(np.arange(100)) != stream.at(np.arange(100, 200))).any()
    assert ShuffledStream(3, 0, shuffle=False).at(np.arange(7)).tolist() == [0, 1, 2, 0, 1, 2, 0]


@settings(max_examples=50)
@given(
    st.lists(st.floats(0, 4).map(lambda x: round(x, 3)), min_size=1, max_size=20).filter(lambda r: sum(r) > 0.1),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_repeats_are_rounded_down_or_up_and_right_in_the_long_run(
    repeats: list[float], seed: int, shuffle: bool
) -> None:
    stream = RepeatStream(np.array(repeats), seed, shuffle=shuffle)
    starts = [stream._start(epoch) for epoch in range(41)]
    assert starts[0] == 0
    taken = stream.at(np.arange(starts[-1]))
    for epoch in range(40):
        counts = Counter(taken[starts[epoch] : starts[epoch + 1]].tolist())
        for sample, factor in enumerate(repeats):
            assert abs(counts[sample] - factor) < 1 + 1e-4
    assert starts[-1] == pytest.approx(40 * sum(repeats), abs=1.01)


def test_long_run_frequencies_are_the_factors() -> None:
    repeats = np.array([1.0, 1.5, 2.25, 0.3])
    stream = RepeatStream(repeats, 5)
    epochs = 4000
    counts = np.bincount(stream.at(np.arange(int(epochs * repeats.sum()))), minlength=4) / epochs
    assert np.abs(counts - repeats).max() < 0.03


def test_factors_of_one_are_a_plain_shuffle() -> None:
    stream = RepeatStream(np.ones(30), 1)
    for epoch in range(5):
        assert sorted(stream.at(np.arange(epoch * 30, epoch * 30 + 30)).tolist()) == list(range(30))


def test_random_access_equals_walking() -> None:
    stream = RepeatStream(np.array([1.2, 3.4, 0.5]), 7)
    walked = stream.at(np.arange(500))
    again = RepeatStream(np.array([1.2, 3.4, 0.5]), 7)
    assert [int(again.at(np.array([p]))[0]) for p in range(499, -1, -7)] == walked[499::-7].tolist()


@pytest.mark.parametrize("repeats", [[-1.0, 2.0], [float("nan")], [float("inf")], [0.0, 0.0], [[1.0]]])
def test_bad_factors(repeats: list[float]) -> None:
    with pytest.raises(ValueError, match="repeat factors"):
        RepeatStream(np.array(repeats), 0)
