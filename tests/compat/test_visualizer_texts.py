"""Texts beside instances."""

from __future__ import annotations

import pytest
import torch

from drivetrain.compat.visualizer_texts import text_labels

NAMES = ["cat", "dog"]


def test_names_shares_and_crowds() -> None:
    assert text_labels([1, 0], torch.tensor([0.974, 1.0]), NAMES) == ["dog 97%", "cat 100%"]
    assert text_labels([0, 2], None, NAMES) == ["cat", "class 2"] and text_labels([-1], None, NAMES) == ["class -1"]
    assert text_labels(torch.tensor([1]), None, None) == ["class 1"]  # type: ignore[arg-type]
    assert text_labels(None, [0.5], NAMES) == ["50%"] and text_labels(None, None, NAMES) is None
    assert text_labels([0, 0], None, NAMES, is_crowd=[0, 1]) == ["cat", "cat (crowd)"]


def test_one_score_for_each_class() -> None:
    with pytest.raises(ValueError, match="zip"):
        text_labels([0, 1], [0.5], NAMES)
