from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.data.formats.yolo_label import LabelLayout, format_label, parse_label

BOXES = LabelLayout(3)
POINTS = LabelLayout(3, (2, 3))
PAIRS = LabelLayout(3, (2, 2))


def test_a_box() -> None:
    item = parse_label("2 0.5 0.25 0.2 0.5", 100, 200, BOXES)
    assert (item.label, item.more) == (2, {})
    assert item.box == pytest.approx([80, 0, 40, 50])


def test_an_outline() -> None:
    item = parse_label("0 0.1 0.2 0.5 0.2 0.5 0.9", 10, 20, BOXES)
    assert item.box == pytest.approx([2, 2, 8, 7])
    assert item.more["segmentation"] == [pytest.approx([2, 2, 10, 2, 10, 9])]


def test_keypoints_with_and_without_a_visibility() -> None:
    item = parse_label("1 0.5 0.5 1 1 0.25 0.5 2 0.9 0.9 0", 10, 20, POINTS)
    assert item.more == {"keypoints": [5, 5, 2, 0, 0, 0]}
    item = parse_label("1 0.5 0.5 1 1 0.25 0.5 0 0", 10, 20, PAIRS)
    assert item.more == {"keypoints": [5, 5, 2, 0, 0, 0]}


@pytest.mark.parametrize(
    ("line", "layout", "why"),
    [
        ("dog 0 0 1 1", BOXES, "is 'dog 0 0 1 1'; a line is numbers"),
        ("0 0.5 0.5 1", BOXES, r"has 4 numbers \(0 0.5 0.5 1\); a line is a class and 4 numbers"),
        ("0 0.1 0.1 0.2 0.2 0.3", BOXES, "has 6 numbers"),
        (
            "0 0.5 0.5 1 1 0.2 0.2",
            POINTS,
            "has 7 numbers .* a class, a box and 2 keypoints of 3 numbers, 11 numbers in",
        ),
        ("3 0.5 0.5 1 1", BOXES, r"has the class 3, but there are 3 \(0 to 2\)"),
        ("-1 0.5 0.5 1 1", BOXES, "has the class -1"),
        ("0.5 0.5 0.5 1 1", BOXES, "has the class '0.5'; it is a whole number"),
        ("nan 0.5 0.5 1 1", BOXES, "has the class 'nan'"),
        ("0 320 240 100 50", BOXES, "has the coordinate 320; coordinates are shares"),
        ("0 nan 0.5 1 1", BOXES, "has the coordinate nan"),
        ("0 inf 0.5 1 1", BOXES, "has the coordinate inf"),
        ("0 0.5 0.5 1 1 7 7 2 0 0 0", POINTS, "has the coordinate 7"),
    ],
)
def test_malformed_lines(line: str, layout: LabelLayout, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_label(line, 10, 20, layout)


def test_a_long_line_is_cut_short_in_the_message() -> None:
    with pytest.raises(ValueError) as error:
        parse_label("x" * 10_000, 10, 20, BOXES)
    assert len(str(error.value)) < 200


pixels = st.floats(0, 1)


@given(st.integers(0, 2), st.integers(1, 5000), st.integers(1, 5000), st.lists(pixels, min_size=4, max_size=4))
def test_boxes_come_back(label: int, height: int, width: int, shares: list[float]) -> None:
    x, y, w, h = shares
    box = [x * width, y * height, w * (1 - x) * width, h * (1 - y) * height]
    item = parse_label(format_label(label, height, width, box, {}, BOXES), height, width, BOXES)
    assert item.label == label and item.box == pytest.approx(box, abs=1e-5)


@given(st.lists(st.tuples(pixels, pixels), min_size=3, max_size=9), st.integers(1, 5000))
def test_outlines_come_back(points: list[tuple[float, float]], width: int) -> None:
    polygon = [v for x, y in points for v in (x * width, y * 77)]
    more: dict[str, Any] = {"segmentation": [polygon]}
    item = parse_label(format_label(0, 77, width, [0, 0, 1, 1], more, BOXES), 77, width, BOXES)
    assert item.more["segmentation"] == [pytest.approx(polygon, abs=1e-5)]


@given(st.lists(st.tuples(pixels, pixels, st.sampled_from([1, 2])), min_size=2, max_size=2))
def test_keypoints_come_back(points: list[tuple[float, float, int]]) -> None:
    flat = [v for x, y, visible in points for v in (x * 20, y * 10, visible)]
    item = parse_label(format_label(0, 10, 20, [1, 1, 2, 2], {"keypoints": flat}, POINTS), 10, 20, POINTS)
    assert item.more["keypoints"] == pytest.approx(flat, abs=1e-6)
    assert item.box == pytest.approx([1, 1, 2, 2])
    none = format_label(0, 10, 20, [1, 1, 2, 2], {}, POINTS)
    assert parse_label(none, 10, 20, POINTS).more["keypoints"] == [0] * 6
