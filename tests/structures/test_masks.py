"""Masks as bitmaps and as polygons."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.structures import BitMasks, PolygonMasks

SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]
SMALL = [20.0, 0.0, 24.0, 0.0, 24.0, 2.0, 20.0, 2.0]


@pytest.fixture
def bitmaps() -> BitMasks:
    masks = torch.zeros(3, 10, 12, dtype=torch.bool)
    masks[0, 2:5, 3:9] = True
    masks[1, 9, 11] = True
    return BitMasks(masks)


@pytest.fixture
def polygons() -> PolygonMasks:
    return PolygonMasks([[SQUARE], [SQUARE, SMALL], []])


def test_bitmaps_measure(bitmaps: BitMasks) -> None:
    assert bitmaps.area().tolist() == [18, 1, 0]
    assert bitmaps.nonempty().tolist() == [True, True, False]
    assert bitmaps.get_bounding_boxes().tensor.tolist() == [[3, 2, 9, 5], [11, 9, 12, 10], [0, 0, 0, 0]]
    assert bitmaps.image_size == (10, 12)
    assert repr(bitmaps) == "BitMasks(num_instances=3, height=10, width=12)"


def test_bitmaps_index_and_join(bitmaps: BitMasks) -> None:
    assert bitmaps[1].area().tolist() == [1]
    assert len(bitmaps[torch.tensor([True, False, True])]) == 2
    assert bitmaps[[1, 0]].area().tolist() == [1, 18]
    assert len(BitMasks.cat([bitmaps, bitmaps[:1]])) == 4
    assert [m.shape for m in bitmaps] == [(10, 12)] * 3
    assert bitmaps.to("cpu").device.type == "cpu"
    with pytest.raises(ValueError, match="empty"):
        BitMasks.cat([])
    with pytest.raises(ValueError, match=r"\(N, H, W\).*\(10, 12\)"):
        BitMasks(torch.zeros(10, 12))


def test_empty_bitmaps() -> None:
    none = BitMasks(torch.zeros(0, 4, 5, dtype=torch.bool))
    assert none.get_bounding_boxes().tensor.shape == (0, 4)
    assert none.crop_and_resize(torch.zeros(0, 4), 7).shape == (0, 7, 7)


def test_bitmap_crops(bitmaps: BitMasks) -> None:
    boxes = torch.tensor([[3.0, 2, 9, 5], [6.0, 2, 12, 8], [0.0, 0, 12, 10]])
    crops = bitmaps[[0, 0, 2]].crop_and_resize(boxes, 6)
    assert crops.dtype == torch.bool
    assert crops[0].all()
    # The upper half of the second box, left half, is in the mask.
    assert torch.equal(crops[1], torch.nn.functional.pad(torch.ones(3, 3), (0, 3, 0, 3)).bool())
    assert not crops[2].any()
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(2, 4\)"):
        bitmaps.crop_and_resize(boxes[:2], 6)


def test_polygons_measure(polygons: PolygonMasks) -> None:
    assert polygons.area().tolist() == [100, 108, 0]
    assert polygons.nonempty().tolist() == [True, True, False]
    assert polygons.get_bounding_boxes().tensor.tolist() == [[2, 3, 12, 13], [2, 0, 24, 13], [0, 0, 0, 0]]
    assert repr(polygons) == "PolygonMasks(num_instances=3)"


def test_polygons_index_and_join(polygons: PolygonMasks) -> None:
    assert len(polygons[1].polygons[0]) == 2
    assert [len(p) for p in polygons[1:]] == [2, 0]
    assert [len(p) for p in polygons[torch.tensor([True, False, True])]] == [1, 0]
    assert [len(p) for p in polygons[np.array([2, 1])]] == [0, 2]
    assert [len(p) for p in polygons[torch.tensor([False] * 3)]] == []
    assert len(PolygonMasks.cat([polygons, polygons[:1]])) == 4
    assert polygons.to("cpu").device.type == "cpu"
    with pytest.raises(IndexError, match="cannot index 3"):
        polygons[torch.tensor([True])]


@pytest.mark.parametrize("bad", [[1.0, 2.0, 3.0, 4.0], [1.0] * 7, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
def test_bad_polygons(bad) -> None:
    with pytest.raises(ValueError, match="3 or more x, y pairs"):
        PolygonMasks([[bad]])


def test_polygon_crops_equal_bitmap_crops(polygons: PolygonMasks) -> None:
    boxes = torch.tensor([[2.0, 3, 12, 13], [0.0, 0, 24, 16], [0.0, 0, 5, 5]])
    crops = polygons.crop_and_resize(boxes, 8)
    bits = BitMasks.from_polygon_masks(polygons, 20, 30).crop_and_resize(boxes, 8)
    assert crops.shape == bits.shape == (3, 8, 8)
    assert crops[0].all()
    assert not crops[2].any()
    assert (crops != bits).float().mean() < 0.1


def test_bitmaps_from_polygons(polygons: PolygonMasks) -> None:
    bits = BitMasks.from_polygon_masks(polygons, 20, 30)
    assert bits.area().tolist() == [100, 108, 0]
    assert len(BitMasks.from_polygon_masks([], 20, 30)) == 0
