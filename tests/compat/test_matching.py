"""Which boxes belong together, and how they differ."""

from __future__ import annotations

import math

import pytest
import torch

from drivetrain.compat.matching import Box2BoxTransform, Matcher
from drivetrain.errors import ModelError


def test_limits() -> None:
    assert Matcher([0.3, 0.7], [0, -1, 1], True).limits([0, -1, 1], low_quality=True) == (0.3, 0.7)
    assert Matcher([0.5], [0, 1]).limits([0, 1], low_quality=False) == (0.5, 0.5)
    with pytest.raises(
        ModelError, match=r"labels \[0, 1\] and allow_low_quality_matches False here.*given .* and True"
    ):
        Matcher([0.5], [0, 1], True).limits([0, 1], low_quality=False)
    with pytest.raises(ModelError, match=r"between each two labels \[0, -1, 1\], not \[0.5\]"):
        Matcher([0.5], [0, -1, 1]).limits([0, -1, 1], low_quality=False)


def test_differences_by_hand_and_back() -> None:
    transform = Box2BoxTransform((10, 10, 5, 5))
    boxes, targets = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[5.0, 0.0, 25.0, 20.0]])
    deltas = transform.get_deltas(boxes, targets)  # the centre moves by one width, the width doubles
    assert torch.allclose(deltas, torch.tensor([[10.0, 0.0, 5 * math.log(2), 0.0]]))
    assert torch.allclose(transform.apply_deltas(deltas, boxes), targets)
