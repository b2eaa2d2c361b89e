"""Boxes, their notations and overlaps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.errors import DatasetError
from drivetrain.structures import (
    Boxes,
    BoxMode,
    matched_pairwise_iou,
    pairwise_intersection,
    pairwise_ioa,
    pairwise_iou,
)

coordinate = st.floats(-500, 500, width=32)
size = st.floats(0.125, 300, width=32)
xywh = st.tuples(coordinate, coordinate, size, size)


def iou_by_definition(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda r: (r[2] - r[0]) * (r[3] - r[1])  # noqa: E731
    shared = width * height
    return shared / (area(a) + area(b) - shared) if shared > 0 else 0.0


def test_mode_values_are_those_stored_in_records() -> None:
    assert [m.value for m in BoxMode] == [0, 1, 2, 3, 4]
    assert (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS) == (0, 1, 4)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_convert_keeps_the_type(kind) -> None:
    box = kind([10.0, 20.0, 30.0, 50.0])
    converted = BoxMode.convert(box, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert type(converted) is type(box)
    assert list(map(float, converted)) == [10, 20, 20, 30]


def test_convert_takes_rows_and_plain_integers_and_leaves_the_input_alone() -> None:
    rows = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], dtype=np.int64)
    converted = BoxMode.convert(rows, 1, 0)
    assert converted.tolist() == [[1, 2, 4, 6], [5, 6, 12, 14]]
    assert rows.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@given(xywh)
def test_convert_there_and_back(box) -> None:
    there = BoxMode.convert(torch.tensor([box], dtype=torch.float64), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    back = BoxMode.convert(there, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert torch.allclose(back, torch.tensor([box], dtype=torch.float64))


@given(xywh, st.floats(-180, 180))
def test_rotated_box_lies_within_its_upright_one(box, angle) -> None:
    cx, cy, w, h = box
    got = BoxMode.convert((cx, cy, w, h, angle), BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS)
    a = math.radians(angle)
    corners = [
        (
            cx + sx * w / 2 * math.cos(a) + sy * h / 2 * math.sin(a),
            cy - sx * w / 2 * math.sin(a) + sy * h / 2 * math.cos(a),
        )
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    xs, ys = zip(*corners, strict=True)
    assert got == pytest.approx((min(xs), min(ys), max(xs), max(ys)), abs=1e-2, rel=1e-4)


def test_convert_refuses_what_it_cannot_do() -> None:
    with pytest.raises(DatasetError, match=r"XYXY_REL to XYXY_ABS.*multiply"):
        BoxMode.convert([0, 0, 1, 1], BoxMode.XYXY_REL, BoxMode.XYXY_ABS)
    with pytest.raises(DatasetError, match=r"has 4 numbers.*\[1, 2, 3\]"):
        BoxMode.convert([1, 2, 3], BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    with pytest.raises(ValueError, match="9"):
        BoxMode.convert([1, 2, 3, 4], 9, 0)


def test_construction() -> None:
    assert Boxes([[1, 2, 3, 4]]).tensor.dtype == torch.float32
    assert Boxes([]).tensor.shape == (0, 4)
    assert Boxes(torch.zeros(0)).tensor.shape == (0, 4)
    assert Boxes(np.ones((2, 4), dtype=np.float64)).tensor.dtype == torch.float32
    for wrong in (torch.zeros(4), torch.zeros(2, 5), torch.zeros(1, 2, 4)):
        with pytest.raises(ValueError, match="rows of 4"):
            Boxes(wrong)


def test_area_centers_nonempty_clip_scale() -> None:
    boxes = Boxes([[0, 0, 10, 5], [-5, 2, 30, 40], [3, 3, 3, 9]])
    assert boxes.area().tolist() == [50, 35 * 38, 0]
    assert boxes.get_centers().tolist() == [[5, 2.5], [12.5, 21], [3, 6]]
    assert boxes.nonempty().tolist() == [True, True, False]
    assert boxes.nonempty(threshold=5).tolist() == [False, True, False]
    copy = boxes.clone()
    boxes.clip((20, 25))
    assert boxes.tensor.tolist() == [[0, 0, 10, 5], [0, 2, 25, 20], [3, 3, 3, 9]]
    assert copy.tensor[1].tolist() == [-5, 2, 30, 40]
    boxes.scale(2, 0.5)
    assert boxes.tensor[0].tolist() == [0, 0, 20, 2.5]


def test_inside_box() -> None:
    boxes = Boxes([[0, 0, 9, 9], [0, 0, 10, 9], [-1, 0, 5, 5]])
    assert boxes.inside_box((10, 10)).tolist() == [True, False, False]
    assert boxes.inside_box((10, 10), boundary_threshold=1).tolist() == [True, True, True]


def test_indexing_always_gives_boxes() -> None:
    boxes = Boxes(torch.arange(12).view(3, 4))
    assert boxes[1].tensor.tolist() == [[4, 5, 6, 7]]
    assert boxes[-1].tensor.tolist() == [[8, 9, 10, 11]]
    assert len(boxes[1:]) == 2
    assert boxes[torch.tensor([True, False, True])].tensor[1].tolist() == [8, 9, 10, 11]
    assert boxes[[2, 0]].tensor[0].tolist() == [8, 9, 10, 11]
    assert len(boxes[np.array([0, 0, 1])]) == 3
    assert len(boxes[torch.tensor(1)]) == 1
    with pytest.raises(IndexError):
        boxes[3]
    assert [b.shape for b in boxes] == [(4,)] * 3


def test_cat_and_to() -> None:
    boxes = Boxes.cat([Boxes([[0, 0, 1, 1]]), Boxes([]), Boxes([[2, 2, 3, 3]])])
    assert boxes.tensor.tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert len(Boxes.cat([])) == 0
    assert boxes.to("cpu").device == torch.device("cpu")
    assert "Boxes(tensor" in repr(boxes)


@settings(max_examples=50)
@given(st.lists(xywh, max_size=5), st.lists(xywh, max_size=4))
def test_overlaps_equal_their_definition(first, second) -> None:
    a, b = (Boxes([BoxMode.convert(list(x), 1, 0) for x in boxes]) for boxes in (first, second))
    iou, shared, ioa = pairwise_iou(a, b), pairwise_intersection(a, b), pairwise_ioa(a, b)
    assert iou.shape == shared.shape == ioa.shape == (len(first), len(second))
    for i, x in enumerate(a.tensor.double().tolist()):
        for j, y in enumerate(b.tensor.double().tolist()):
            assert iou[i, j].item() == pytest.approx(iou_by_definition(x, y), abs=1e-3)
            assert 0 <= ioa[i, j] <= 1.001
    assert torch.equal(iou, pairwise_iou(b, a).T)


def test_overlap_of_empty_boxes_is_zero_not_nan() -> None:
    point = Boxes([[5, 5, 5, 5]])
    assert pairwise_iou(point, point).item() == 0
    assert pairwise_ioa(Boxes([[0, 0, 9, 9]]), point).item() == 0


def test_matched_iou() -> None:
    a, b = Boxes([[0, 0, 2, 2], [0, 0, 1, 1]]), Boxes([[1, 0, 3, 2], [0, 0, 1, 1]])
    assert matched_pairwise_iou(a, b).tolist() == pytest.approx([1 / 3, 1])
    assert torch.equal(matched_pairwise_iou(a, b), pairwise_iou(a, b).diag())
    with pytest.raises(ValueError, match="2 and 1"):
        matched_pairwise_iou(a, b[:1])
