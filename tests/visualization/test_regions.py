"""Label maps on their image, pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetrain.visualization.drawing import draw_instances
from drivetrain.visualization.palette import class_color
from drivetrain.visualization.regions import draw_label_map, draw_regions

IMAGE = np.full((100, 120, 3), 128, dtype=np.uint8)


def halves() -> np.ndarray[Any, Any]:
    labels = np.full((100, 120), 2)
    labels[:, 60:] = 7
    labels[90:] = 255
    return labels


def tint(index: int) -> np.ndarray[Any, Any]:
    return 0.55 * 128 + 0.45 * np.array(class_color(index))


def test_each_class_has_its_colour_and_ignored_pixels_stay() -> None:
    drawn = draw_label_map(IMAGE, halves(), min_side=0)
    assert np.abs(drawn[10, 5] - tint(2)).max() <= 1
    assert np.abs(drawn[10, 115] - tint(7)).max() <= 1
    assert (drawn[91:] == 128).all() and (IMAGE == 128).all()
    assert np.abs(draw_label_map(IMAGE, halves(), ignore_label=None, min_side=0)[95, 5] - tint(255)).max() <= 1
    assert drawn[10, 59].tolist() == list(class_color(2))  # the outline


def test_names_are_written_in_their_region() -> None:
    labels = halves()
    plain = draw_regions(IMAGE, labels, {2: 2, 7: 7}, ["", "", " ", "", "", "", "", " "], min_side=0)
    named = draw_regions(IMAGE, labels, {2: 2, 7: 7}, ["", "", "sky", "", "", "", "", " "], min_side=0)
    where = np.argwhere((plain != named).any(axis=2))
    assert len(where) and where[:, 1].min() > 25 and where[:, 1].max() < 110
    assert where[:, 0].min() > 20 and where[:, 0].max() < 80


def test_regions_have_the_colour_of_their_class_and_others_stay() -> None:
    ids = np.zeros((100, 120), dtype=np.int32)
    ids[10:30, 10:30], ids[50:80, 50:80] = 70_000, 5
    drawn = draw_regions(IMAGE, ids, {70_000: 4}, min_side=0)
    changed = (drawn != 128).any(axis=2)
    assert changed[11:29, 11:29].all() and not changed[50:, 50:].any()
    assert np.abs(drawn[27, 12] - tint(4)).max() <= 1
    nothing = draw_regions(IMAGE, ids, {}, min_side=0)
    assert np.array_equal(nothing, IMAGE)


def test_scattered_and_tiny_regions_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_label_map(IMAGE, rng.integers(0, 300, (100, 120)), [f"class {i}" for i in range(10)], min_side=300)
    assert drawn.shape == (300, 360, 3)


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="height x width 100x120, but one of 50x120"):
        draw_label_map(IMAGE[:50], halves())


def test_without_frames_the_labels_stay() -> None:
    options: dict[str, Any] = {"boxes": [[40, 40, 80, 80]], "classes": [1], "class_names": ["a", "cat"]}
    framed, bare = draw_instances(IMAGE, **options), draw_instances(IMAGE, **options, frames=False)
    assert framed[60, 40].tolist() == list(class_color(1)) and (bare[42:, :] == 128).all()
    assert (bare[20:40] != 128).any()
