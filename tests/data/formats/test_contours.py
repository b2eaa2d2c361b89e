from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drivetrain.data.formats.contours import mask_box, mask_polygons

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def signed_area(polygon: list[int]) -> float:
    """Positive for clockwise on the screen (y down)."""
    x, y = np.array(polygon[0::2]), np.array(polygon[1::2])
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def fill(polygons: list[list[int]], height: int, width: int) -> np.ndarray:
    """Even-odd rule, by counting vertical edges to the left of each pixel's centre."""
    filled = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        points = list(zip(polygon[0::2], polygon[1::2], strict=True))
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if x0 == x1:
                filled[min(y0, y1) : max(y0, y1), x0:] ^= True
    return filled


@given(masks)
@settings(max_examples=100)
def test_borders_enclose_exactly_the_mask(mask: np.ndarray) -> None:
    polygons = mask_polygons(mask)
    np.testing.assert_array_equal(fill(polygons, *mask.shape), mask)
    assert sum(signed_area(p) for p in polygons) == mask.sum()


@given(masks)
def test_only_corners_are_listed(mask: np.ndarray) -> None:
    for polygon in mask_polygons(mask):
        x, y = np.array(polygon[0::2]), np.array(polygon[1::2])
        turns_x, turns_y = np.diff(x, append=x[0]) != 0, np.diff(y, append=y[0]) != 0
        assert (turns_x ^ turns_y).all() and (turns_x == ~np.roll(turns_x, 1)).all()


def test_a_rectangle_a_hole_and_touching_corners() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:4, 2:5] = True
    assert mask_polygons(mask) == [[5, 1, 5, 4, 2, 4, 2, 1]]
    assert mask_box(mask) == (2, 1, 3, 3)
    mask[2, 3] = False
    assert sorted(signed_area(p) for p in mask_polygons(mask)) == [-1, 9]
    assert len(mask_polygons(np.eye(3, dtype=bool))) == 3
    assert mask_polygons(np.zeros((3, 3), dtype=bool)) == []


@given(masks)
@settings(max_examples=50)
def test_the_coco_tools_fill_one_border_the_same(mask: np.ndarray) -> None:
    mask_tools = pytest.importorskip("pycocotools.mask")
    polygons = mask_polygons(mask)
    if len(polygons) == 1:
        decoded = mask_tools.decode(mask_tools.merge(mask_tools.frPyObjects([polygons[0]], *mask.shape)))
        np.testing.assert_array_equal(decoded.astype(bool), mask)
