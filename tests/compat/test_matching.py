"""Which boxes belong together, and how they differ."""

from __future__ import annotations

import math

import pytest
import torch

from drivetrain.compat.matching import Box2BoxTransform, Matcher, subsample_labels
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


def test_boxes_are_matched_by_hand() -> None:
    overlaps = torch.tensor([[0.1, 0.5, 0.8, 0.3, 0.0], [0.2, 0.6, 0.3, 0.1, 0.0]])
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1])(overlaps)
    assert matches.tolist()[:4] == [1, 1, 0, 0] and labels.tolist() == [0, -1, 1, -1, 0]
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1], True)(overlaps)
    assert matches.tolist()[:4] == [1, 1, 0, 0] and labels.tolist() == [0, 1, 1, -1, 0]
    assert (matches.dtype, labels.dtype) == (torch.int64, torch.int8)


def test_without_true_boxes_all_are_background() -> None:
    matches, labels = Matcher([0.5], [0, 1])(torch.zeros(0, 3))
    assert matches.tolist() == labels.tolist() == [0, 0, 0] and matches.dtype == torch.int64


def test_boxes_to_learn_from() -> None:
    labels = torch.tensor([2, 2, 0, -1, 1, 2, 2, 2])
    positive, negative = subsample_labels(labels, 4, 0.5, 2)
    assert sorted(positive.tolist()) == [2, 4] and len(negative) == 2
    assert set(negative.tolist()) <= {0, 1, 5, 6, 7}
    assert len(subsample_labels(labels, 4, 0.25, 2)[0]) == 1
    every = subsample_labels(labels, 100, 1.0, 2)
    assert [sorted(indices.tolist()) for indices in every] == [[2, 4], [0, 1, 5, 6, 7]]


def test_how_much_a_box_may_grow_is_fixed() -> None:
    assert Box2BoxTransform((1, 1, 1, 1), scale_clamp=math.log(1000 / 16)).weights == (1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ModelError, match="scale_clamp is 2.0, but boxes grow by at most"):
        Box2BoxTransform((1, 1, 1, 1), scale_clamp=2.0)
