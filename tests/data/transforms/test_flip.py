"""Flipping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drivetrain.data.transforms import FlipTransform, NoOpTransform, RandomFlip
from drivetrain.errors import ConfigError


@given(arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 8), st.just(3))), st.booleans())
def test_pixels(image: np.ndarray, horizontal: bool) -> None:
    out = FlipTransform(image.shape[:2], horizontal=horizontal).apply_image(image)
    assert (out == (np.fliplr(image) if horizontal else np.flipud(image))).all()


def test_a_box_stays_around_its_pixels() -> None:
    image = torch.zeros(1, 6, 10, dtype=torch.uint8)
    image[:, 1:3, 2:7] = 9
    for horizontal in (True, False):
        flip = FlipTransform((6, 10), horizontal=horizontal)
        x0, y0, x1, y1 = (int(v) for v in flip.apply_boxes(np.array([[2.0, 1.0, 7.0, 3.0]]))[0])
        out = flip.apply_image(image)
        assert (out[:, y0:y1, x0:x1] == 9).all() and (out == 9).sum() == (x1 - x0) * (y1 - y0) == 10


def test_twice_is_once_back() -> None:
    flip, boxes = FlipTransform((6, 10)), np.array([[0.5, 1.0, 7.25, 3.0]])
    assert flip.apply_boxes(flip.apply_boxes(boxes)).tolist() == boxes.tolist()


def test_probability() -> None:
    rng = np.random.default_rng(0)
    flips = [isinstance(RandomFlip(0.3).draw(rng, 4, 4), FlipTransform) for _ in range(2000)]
    assert abs(np.mean(flips) - 0.3) < 0.05
    assert isinstance(RandomFlip(0.0).draw(rng, 4, 4), NoOpTransform)
    vertical = RandomFlip(1.0, horizontal=False, vertical=True).draw(rng, 4, 4)
    assert vertical.apply_coords(np.array([[1.0, 1.0]])).tolist() == [[1.0, 3.0]]


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"1\.5"):
        RandomFlip(1.5)
    for both in (True, False):
        with pytest.raises(ConfigError, match="either horizontal or vertical"):
            RandomFlip(horizontal=both, vertical=both)
