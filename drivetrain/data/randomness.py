"""Random numbers as a function of (seed, position), with no hidden state.

Everything is derived by explicit 64-bit integer arithmetic: the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014), so that a seed means the same on every platform and with every
version of NumPy.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["derive", "generator", "hash_array", "preserved_globals", "seed_globals", "seeded_globals"]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = 0x94D049BB133111EB

UIntArray = np.ndarray[Any, np.dtype[np.uint64]]


def _mix(value: int) -> int:
    """The SplitMix64 finaliser: a bijection of 64-bit integers in which every input bit moves every output bit."""
    value = ((value ^ (value >> 30)) * _MULTIPLIER_1) & _MASK
    value = ((value ^ (value >> 27)) * _MULTIPLIER_2) & _MASK
    return value ^ (value >> 31)


def derive(seed: int, *numbers: int) -> int:
    """An integer in [0, 2**63) that is fixed by all the arguments and changes unpredictably with each of them.

    Args:
        seed: any integer; its low 64 bits count.
        numbers: any integers, the order counts: ``derive(s, 1, 2) != derive(s, 2, 1)``.
    """
    value = _mix((seed + _GOLDEN) & _MASK)
    for number in numbers:
        # The factor makes seed and number play different parts: derive(1, 2) is not derive(2, 1).
        value = _mix((value * _MULTIPLIER_2 + _mix((number + _GOLDEN) & _MASK)) & _MASK)
    return value >> 1


def hash_array(key: int, values: np.ndarray[Any, Any]) -> UIntArray:
    """A 64-bit hash of each integer of an array under ``key``; different values never collide under one key."""
    mixed = values.astype(np.uint64)  # a copy, changed in place below
    mixed *= np.uint64(_GOLDEN)
    mixed += np.uint64(key & _MASK)
    for shift, multiplier in ((30, _MULTIPLIER_1), (27, _MULTIPLIER_2)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(multiplier)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def generator(seed: int, position: int) -> np.random.Generator:
    """The random generator of one place in the training stream (Philox, a counter-based generator).

    Two calls with equal arguments give generators that draw equal numbers; other arguments give independent ones.
    """
    key = np.array([derive(seed, position, 0), derive(seed, position, 1)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def seed_globals(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's (CPU) global generators."""
    random.seed(derive(seed, 0))
    np.random.seed(derive(seed, 1) & 0xFFFFFFFF)
    torch.default_generator.manual_seed(derive(seed, 2))


@contextmanager
def preserved_globals() -> Iterator[None]:
    """Put the states of Python's, NumPy's and PyTorch's (CPU) global generators back after a block."""
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(torch_state)


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators for a block, then put their states back.

    For code of the user's that draws from the global generators: what it draws is fixed by ``seed``, and nobody
    outside the block notices.
    """
    with preserved_globals():
        seed_globals(seed)
        yield
