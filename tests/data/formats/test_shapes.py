from __future__ import annotations

import numpy as np
import pytest

from drivetrain.data.formats.contours import mask_box, mask_polygons
from drivetrain.data.formats.shapes import MIN_RADIUS, SHAPE_NAMES, Picture, draw_picture


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [draw_picture(np.random.default_rng(i), 128, 96) for i in range(60)]


def test_pixels_and_masks_have_the_size_asked_for(pictures: list[Picture]) -> None:
    for picture in pictures:
        assert picture.pixels.shape == (96, 128, 3) and picture.pixels.dtype == np.uint8
        assert all(shape.mask.shape == (96, 128) for shape in picture.shapes)


def test_shapes_are_whole_do_not_share_pixels_and_differ(pictures: list[Picture]) -> None:
    for picture in pictures:
        assert len(picture.shapes) <= 5
        assert sum(shape.mask.astype(int) for shape in picture.shapes).max() <= 1
        for shape in picture.shapes:
            assert len(mask_polygons(shape.mask)) == 1
    labels = [shape.label for picture in pictures for shape in picture.shapes]
    assert set(labels) == set(range(len(SHAPE_NAMES)))
    assert len({len(p.shapes) for p in pictures}) >= 4


def test_sizes_vary_within_their_bounds(pictures: list[Picture]) -> None:
    sides = [max(mask_box(s.mask)[2:]) for p in pictures for s in p.shapes]
    assert min(sides) >= MIN_RADIUS and max(sides) <= 2 * 0.3 * 96 + 2 and max(sides) > 2 * min(sides)


def test_a_shape_stands_out_from_the_ground_and_class_does_not_tell_colour(pictures: list[Picture]) -> None:
    means = [p.pixels[s.mask].mean(axis=0) for p in pictures for s in p.shapes]
    labels = np.array([s.label for p in pictures for s in p.shapes])
    by_class = np.array([np.mean([m for m, k in zip(means, labels, strict=True) if k == c], axis=0) for c in range(3)])
    assert np.std(means, axis=0).min() > 40
    assert (by_class.max(axis=0) - by_class.min(axis=0)).max() < 75


@pytest.mark.parametrize(("label", "fullness"), [(0, np.pi / 4), (2, 0.5)])
def test_the_drawn_area_is_that_of_the_shape(pictures: list[Picture], label: int, fullness: float) -> None:
    alone = [s for p in pictures for s in p.shapes if s.label == label and len(p.shapes) == 1]
    for shape in alone:
        _, _, width, height = mask_box(shape.mask)
        share = shape.mask.sum() / (width * height)
        assert share == pytest.approx(fullness, abs=0.06 if label == 0 else 0.15)
    assert alone


def test_the_same_generator_draws_the_same() -> None:
    first, second = (draw_picture(np.random.default_rng(5), 64, 64) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert [s.label for s in first.shapes] == [s.label for s in second.shapes]


def test_small_pictures_work() -> None:
    for seed in range(20):
        picture = draw_picture(np.random.default_rng(seed), 32, 40)
        assert picture.pixels.shape == (40, 32, 3)


def test_no_more_shapes_than_asked_for() -> None:
    for most in (1, 2):
        counts = [len(draw_picture(np.random.default_rng(i), 64, 64, most).shapes) for i in range(30)]
        assert max(counts) == most
