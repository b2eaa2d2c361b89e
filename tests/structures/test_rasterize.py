"""Polygons and run lengths to bitmaps, against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.errors import DatasetError
from drivetrain.structures import bitmask_to_rle, polygons_to_bitmask, rle_to_bitmask

mask_api = pytest.importorskip("pycocotools.mask")

point = st.floats(-3, 25, width=16)
polygon = st.lists(point, min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0)


@settings(max_examples=60)
@given(st.lists(polygon, min_size=1, max_size=3))
def test_polygons_have_the_pixels_of_pycocotools(polygons) -> None:
    expected = mask_api.decode(mask_api.merge(mask_api.frPyObjects(polygons, 20, 22))).astype(bool)
    got = polygons_to_bitmask([np.array(p) for p in polygons], 20, 22)
    assert got.dtype == bool
    assert np.array_equal(got, expected)


def test_a_rectangle_and_nothing() -> None:
    mask = polygons_to_bitmask([[2, 3, 7, 3, 7, 9, 2, 9]], 12, 10)
    expected = np.zeros((12, 10), dtype=bool)
    expected[3:9, 2:7] = True
    assert np.array_equal(mask, expected)
    assert not polygons_to_bitmask([], 4, 5).any()


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_run_lengths_both_ways(height, width, seed) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    compressed = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(rle_to_bitmask(compressed), mask)
    assert np.array_equal(rle_to_bitmask({**compressed, "counts": compressed["counts"].decode()}), mask)
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    counts = [0, *runs] if flat[0] else runs
    assert np.array_equal(rle_to_bitmask({"size": [height, width], "counts": counts}), mask)


def test_bad_run_lengths() -> None:
    with pytest.raises(DatasetError, match="add up to 3, not to 4"):
        rle_to_bitmask({"size": [2, 2], "counts": [1, 2]})
    with pytest.raises(DatasetError, match="'size' and 'counts'"):
        rle_to_bitmask({"counts": [1]})


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31), st.floats(0, 1))
def test_bitmaps_have_the_run_lengths_of_pycocotools(height, width, seed, filled) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < filled
    expected = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert bitmask_to_rle(mask) == {"size": [height, width], "counts": expected["counts"].decode("ascii")}


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**31))
def test_run_lengths_of_a_part_are_those_of_the_whole(height, width, top, left, seed) -> None:
    part = np.random.default_rng(seed).random((height, width)) < 0.7
    for below, right in ((0, 0), (3, 2)):
        whole = np.zeros((top + height + below, left + width + right), dtype=bool)
        whole[top : top + height, left : left + width] = part
        assert bitmask_to_rle(part, whole.shape, (top, left)) == bitmask_to_rle(whole)
