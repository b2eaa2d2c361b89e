from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.errors import CheckpointError, UserInputError
from drivetrain.runtime.seeding import capture_rng_state, preserve_rng, restore_rng_state, seed_all_rng


def draw():
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        torch.rand(1).item(),
        torch.randn(1).item(),
    ]


@pytest.fixture(autouse=True)
def leave_no_trace():
    with preserve_rng():
        yield


@settings(max_examples=25)
@given(st.integers(0, 2**63 - 1))
def test_one_seed_gives_the_same_numbers(seed):
    assert seed_all_rng(seed) == seed
    first = draw()
    assert seed_all_rng(seed) == seed
    assert draw() == first


def test_other_seeds_give_others_in_every_generator():
    seed_all_rng(1)
    first = draw()
    seed_all_rng(2)
    assert all(a != b for a, b in zip(first, draw(), strict=True))


@pytest.mark.parametrize("asked", [None, -1, -77])
def test_a_random_seed_is_told_and_can_be_used_again(asked):
    seed = seed_all_rng(asked)
    first = draw()
    assert 0 <= seed < 2**32
    seed_all_rng(seed)
    assert draw() == first
    assert len({seed_all_rng(asked) for _ in range(5)}) > 1


def test_numpy_integers_are_integers():
    assert seed_all_rng(np.int64(5)) == 5


@pytest.mark.parametrize("seed", ["1", 1.0, True, 2**63, [1]])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(UserInputError, match="SEED"):
        seed_all_rng(seed)


def saved_and_loaded(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@settings(max_examples=15)
@given(st.integers(0, 20))
def test_a_state_goes_through_a_file_and_continues_exactly(steps):
    seed_all_rng(3)
    for _ in range(steps):
        random.gauss(0, 1), np.random.randn()  # both keep half of a pair for the next call
    state = capture_rng_state()
    first = [draw() for _ in range(3)]
    draw()
    restore_rng_state(saved_and_loaded(state))
    assert [draw() for _ in range(3)] == first


def test_preserve_leaves_no_trace_even_after_an_error():
    seed_all_rng(3)
    first = draw()
    seed_all_rng(3)
    with pytest.raises(KeyError), preserve_rng():
        seed_all_rng(9)
        raise KeyError
    assert draw() == first


@pytest.mark.parametrize("key", ["python", "numpy", "torch"])
@pytest.mark.parametrize("bad", [None, 3, {}, torch.zeros(3, dtype=torch.uint8)])
def test_a_wrong_state_is_refused_and_changes_nothing(key, bad):
    seed_all_rng(3)
    state = {**capture_rng_state(), key: bad}
    first = draw()
    seed_all_rng(3)
    with pytest.raises(CheckpointError, match="random number generators"):
        restore_rng_state(state)
    assert draw() == first


def test_states_of_absent_gpus_are_left_out():
    state = {**capture_rng_state(), "cuda": [torch.zeros(16, dtype=torch.uint8)] * 64}
    if not torch.cuda.is_available():
        restore_rng_state(state)
