"""Members of a group by their place."""

from __future__ import annotations

import numpy as np
import pytest

from drivetrain.data.members import Members


@pytest.mark.parametrize("n", [1, 7, 511, 512, 513, 20_000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_the_kth_member(n: int, share: float) -> None:
    is_member = np.random.default_rng(n).random(n) < share
    expected = np.flatnonzero(is_member)
    members = Members(is_member)
    assert len(members) == len(expected)
    places = np.random.default_rng(0).permutation(len(expected))
    assert members.take(places).tolist() == expected[places].tolist()
    assert members.take(np.array([], dtype=np.int64)).dtype == np.int64


def test_blocks_without_members() -> None:
    is_member = np.zeros(50_000, dtype=bool)
    is_member[[5, 511, 512, 30_000, 49_999]] = True
    is_member[10_000:20_000] = True
    places = np.arange(10_005)
    assert (Members(is_member).take(places) == np.flatnonzero(is_member)).all()


@pytest.mark.parametrize("share", [0.001, 0.5])
def test_memory(share: float) -> None:
    """An eighth of a byte for a sample, and 8 bytes for a block of 512."""
    members = Members(np.random.default_rng(0).random(1_000_000) < share)
    held = sum(value.nbytes for value in vars(members).values() if isinstance(value, np.ndarray))
    assert held <= 1_000_000 / 8 + 8 * 1954 + 64
