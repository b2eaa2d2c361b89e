"""Cropping."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.transforms import CropTransform, RandomCrop
from drivetrain.data.transforms.crop import clip_polygon
from drivetrain.errors import ConfigError
from drivetrain.structures import polygons_to_bitmask


def test_pixels_boxes_points() -> None:
    image = np.arange(60, dtype=np.uint8).reshape(6, 10, 1)
    crop = CropTransform((6, 10), top=2, left=3, height=3, width=5)
    assert (crop.apply_image(image) == image[2:5, 3:8]).all()
    assert crop.apply_boxes(np.array([[2.0, 1.0, 7.0, 4.0]])).tolist() == [[-1.0, -1.0, 4.0, 2.0]]
    assert crop.apply_coords(np.array([[3.0, 2.0]])).tolist() == [[0.0, 0.0]]
    assert (crop.apply_bitmask(image[:, :, 0] > 30) == (image[2:5, 3:8, 0] > 30)).all()


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=3, max_size=7),
    st.integers(0, 15),
    st.integers(0, 20),
    st.integers(1, 15),
    st.integers(1, 20),
)
def test_a_cut_polygon_covers_the_pixels_of_the_cut_mask(
    points: list[tuple[int, int]], top: int, left: int, height: int, width: int
) -> None:
    """Against the mask, filled at ten times the size so that rounding at the outline does not matter."""
    crop = CropTransform((30, 40), top, left, height, width)
    polygons = crop.apply_polygons([np.array(points, dtype=float).ravel()])
    scale = 10
    cut = polygons_to_bitmask([p * scale for p in polygons], height * scale, width * scale)
    whole = polygons_to_bitmask([np.array(points, dtype=float).ravel() * scale], 30 * scale, 40 * scale)
    wanted = whole[top * scale : (top + height) * scale, left * scale : (left + width) * scale]
    outline = 2 * (len(points) + 4) * (height + width) * scale
    assert (cut != wanted).sum() <= outline * 0.25


def test_clipping_by_hand() -> None:
    triangle = np.array([[-2.0, 1.0], [4.0, 1.0], [4.0, 7.0]])
    out = clip_polygon(triangle, 4, 5)
    expected = {(0.0, 1.0), (4.0, 1.0), (4.0, 5.0), (2.0, 5.0), (0.0, 3.0)}
    assert {tuple(p) for p in out.tolist()} == expected
    assert clip_polygon(triangle + 100, 4, 5).shape == (0, 2)
    inside = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    assert (clip_polygon(inside, 4, 5) == inside).all()


def test_a_polygon_outside_or_touching_drops_out() -> None:
    crop = CropTransform((20, 20), 0, 0, 10, 10)
    outside, touching = [12, 12, 15, 12, 15, 15], [10, 0, 15, 0, 15, 10, 10, 10]
    assert crop.apply_polygons([outside, touching]) == []


@pytest.mark.parametrize(
    ("kind", "size", "heights", "widths"),
    [
        ("absolute", (30, 50), {30}, {50}),
        ("absolute", (300, 500), {60}, {80}),
        ("relative", (0.5, 0.25), {30}, {20}),
        ("absolute_range", (10, 12), {10, 11, 12}, {10, 11, 12}),
        ("absolute_range", (100, 120), {60}, {80}),
        ("relative_range", (0.9, 0.5), set(range(54, 61)), set(range(40, 81))),
    ],
)
def test_the_four_types(kind: str, size: tuple[float, float], heights: set[int], widths: set[int]) -> None:
    rng = np.random.default_rng(0)
    drawn = [RandomCrop(kind, size).draw(rng, 60, 80) for _ in range(600)]
    assert {d.output_size[0] for d in drawn} == heights
    assert {d.output_size[1] for d in drawn} <= widths and len({d.output_size[1] for d in drawn}) >= 0.9 * len(widths)
    if kind == "relative":
        assert {d.top for d in drawn} == set(range(31)) and {d.left for d in drawn} == set(range(61))


def test_a_crop_of_a_tiny_image_is_never_empty() -> None:
    crop = RandomCrop("relative", (0.1, 0.1)).draw(np.random.default_rng(0), 1, 3)
    assert crop.output_size == (1, 1)
    assert crop.apply_image(torch.zeros(3, 1, 3, dtype=torch.uint8)).shape == (3, 1, 1)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="'relativ'; did you mean 'relative'"):
        RandomCrop("relativ", (0.5, 0.5))
    for kind, size in (
        ("relative", (0.5,)),
        ("relative", (0, 0.5)),
        ("relative_range", (1.5, 0.5)),
        ("absolute", (0.9, 0.9)),
        ("absolute_range", (20, 10)),
    ):
        with pytest.raises(ConfigError, match=r"CROP.SIZE"):
            RandomCrop(kind, size)
    with pytest.raises(ValueError, match="not within an image of height x width 6 x 10"):
        CropTransform((6, 10), 4, 0, 3, 5)


def test_a_crop_that_keeps_an_object() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[0.0, 0.0, 4.0, 6.0], [70.0, 50.0, 80.0, 60.0]])
    crop = RandomCrop("absolute", (20, 30), keep_object=True)
    assert crop.needs_boxes and not RandomCrop("absolute", (20, 30)).needs_boxes
    seen = set()
    for _ in range(200):
        drawn = crop.draw_around(rng, 60, 80, boxes)
        centres = [((b[0] + b[2]) / 2 - drawn.left, (b[1] + b[3]) / 2 - drawn.top) for b in boxes]
        inside = [0 <= x <= 30 and 0 <= y <= 20 for x, y in centres]
        assert sum(inside) == 1 and drawn.output_size == (20, 30)
        seen.add(inside.index(True))
    assert seen == {0, 1}
    assert crop.draw_around(rng, 60, 80, np.zeros((0, 4))).output_size == (20, 30)
