"""Masks, boxes and keypoints in all forms become the same arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.compat.visualizer_masks import as_array, as_bitmaps, as_boxes, as_points, bounding_boxes, middle
from drivetrain.structures import BitMasks, Boxes, Keypoints, PolygonMasks, RoiMasks, bitmask_to_rle

_SQUARE = np.zeros((20, 30), bool)
_SQUARE[5:15, 10:20] = True
_POLYGON = [10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]


@pytest.mark.parametrize(
    "masks",
    [
        BitMasks(torch.tensor(_SQUARE[None])),
        PolygonMasks([[np.array(_POLYGON)]]),
        torch.tensor(_SQUARE[None]),
        _SQUARE[None].astype(np.uint8),
        [_SQUARE],
        [[_POLYGON]],
        [[np.array(_POLYGON)]],
        [bitmask_to_rle(_SQUARE)],
    ],
    ids=lambda masks: type(masks).__name__,
)
def test_every_form_of_a_mask_is_the_same_bitmap(masks: Any) -> None:
    (bitmap,) = as_bitmaps(masks, 20, 30)
    assert bitmap.dtype == bool
    assert (bitmap == _SQUARE).all()


def test_masks_of_regions_are_their_bitmaps() -> None:
    masks = RoiMasks(torch.rand(2, 28, 28), torch.tensor([[10.0, 5.0, 20.0, 15.0], [0.0, 0.0, 9.0, 9.0]]), (20, 30))
    bitmaps = as_bitmaps(masks, 20, 30)
    assert (np.stack(bitmaps) == masks.tensor.numpy()).all()
    assert all(bitmap.any() for bitmap in bitmaps)


def test_no_segmentation_is_an_empty_mask() -> None:
    assert [mask.sum() for mask in as_bitmaps([[], ()], 20, 30)] == [0, 0]


@pytest.mark.parametrize("mask", [_SQUARE.T, bitmask_to_rle(_SQUARE.T)])
def test_a_mask_of_another_size_is_refused(mask: Any) -> None:
    with pytest.raises(ValueError, match=r"a mask for this image is 20x30, but one of \(30, 20\)"):
        as_bitmaps([mask], 20, 30)


def test_boxes_in_every_form() -> None:
    rows = [[1.0, 2.0, 3.0, 4.0]]
    for boxes in (Boxes(torch.tensor(rows)), torch.tensor(rows), np.array(rows), rows):
        assert as_boxes(boxes).tolist() == rows
    assert as_boxes([]).shape == (0, 4)
    assert as_boxes(np.ones((2, 5))).shape == (2, 5)
    with pytest.raises(ValueError, match=r"\(N, 4\), or \(N, 5\)"):
        as_boxes([1.0, 2.0, 3.0, 4.0])


def test_keypoints_up_to_the_threshold_are_not_seen() -> None:
    rows = [[[1.0, 2.0, 0.04], [3.0, 4.0, 0.0], [5.0, 6.0, 2.0]]]
    for keypoints in (Keypoints(rows), torch.tensor(rows), np.array(rows)):
        assert as_points(keypoints, 0.05)[0, :, 2].tolist() == pytest.approx([0, 0, 2])
    assert as_points(np.ones((1, 4, 2)), 0.05)[..., 2].tolist() == [[1, 1, 1, 1]]
    with pytest.raises(ValueError, match=r"\(N, K, 3\)"):
        as_points(np.ones((4, 3)), 0.05)


def test_the_given_keypoints_are_left_alone() -> None:
    given = np.full((1, 1, 3), 0.01)
    as_points(given, 0.05)
    assert (given == 0.01).all()


def test_bounding_boxes_hold_the_pixels() -> None:
    assert bounding_boxes([_SQUARE, np.zeros((20, 30), bool)]).tolist() == [[10, 5, 20, 15], [0, 0, 0, 0]]


def test_the_middle_is_inside_even_of_a_ring() -> None:
    ys, xs = np.mgrid[:41, :41]
    ring = np.abs(np.hypot(ys - 20, xs - 20) - 15) < 3
    x, y = middle(ring)
    assert ring[int(y), int(x)]
    assert not ring[20, 20]
    assert middle(_SQUARE) == (15.0, 9.0)


def test_bool_bitmaps_are_not_copied() -> None:
    masks = torch.tensor(_SQUARE[None])
    (bitmap,) = as_bitmaps(masks, 20, 30)
    assert np.shares_memory(bitmap, masks.numpy())


def test_arrays_are_made_of_tensors_that_need_gradients() -> None:
    assert as_array(torch.ones(2, requires_grad=True)).tolist() == [1, 1]
