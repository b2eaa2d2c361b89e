from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.data.formats.coco_file import Section
from drivetrain.data.formats.coco_shapes import check_boxes, check_keypoints, check_segmentations
from drivetrain.data.formats.defects import DefectReport, Severity


def section(*entries: dict[str, Any]) -> Section:
    return Section("annotations", list(entries), DefectReport("a.json"))


def sizes(count: int, width: int = 60, height: int = 40) -> Any:
    return np.tile([float(width), float(height)], (count, 1))


@pytest.mark.parametrize(
    ("box", "kind", "severity"),
    [
        ([1, 2, 3], "malformed box", Severity.ERROR),
        ([1, 2, 3, "4"], "malformed box", Severity.ERROR),
        ([1, 2, 3, None], "malformed box", Severity.ERROR),
        ([1, 2, 3, 10**400], "malformed box", Severity.ERROR),
        ("1234", "malformed box", Severity.ERROR),
        ({}, "malformed box", Severity.ERROR),
        ([1, 2, 0, 4], "degenerate box", Severity.DROPPED),
        ([1, 2, 3, -4], "degenerate box", Severity.DROPPED),
        ([float("nan")] * 4, "degenerate box", Severity.DROPPED),
        ([1, 2, float("inf"), 4], "degenerate box", Severity.DROPPED),
        ([60, 2, 3, 4], "box outside the image", Severity.DROPPED),
        ([-9, 2, 5, 4], "box outside the image", Severity.DROPPED),
        ([50, 2, 30, 4], "box over the edge", Severity.FIXED),
    ],
)
def test_bad_boxes(box: Any, kind: str, severity: Severity) -> None:
    entries = section({"bbox": [1, 2, 3, 4]}, {"bbox": box})
    boxes = check_boxes(entries, sizes(2))
    assert entries.report.counts == {kind: 1} and entries.report.count(severity) == 1
    assert boxes[0].tolist() == [1, 2, 3, 4]
    assert entries.ok.tolist() == [True, severity is Severity.FIXED]


@given(st.lists(st.tuples(*[st.floats(-100, 100)] * 2, *[st.floats(0.01, 100)] * 2), max_size=8))
def test_kept_boxes_lie_in_the_image_and_inner_ones_are_untouched(boxes: list[tuple[float, ...]]) -> None:
    entries = section(*({"bbox": list(box)} for box in boxes))
    cut = check_boxes(entries, sizes(len(boxes)))
    for (x, y, w, h), made, ok in zip(boxes, cut.tolist(), entries.ok.tolist(), strict=True):
        overlap_w, overlap_h = min(x + w, 60) - max(x, 0), min(y + h, 40) - max(y, 0)
        assert ok == (overlap_w > 0 and overlap_h > 0)
        if ok:
            assert made[2] == pytest.approx(overlap_w) and made[3] == pytest.approx(overlap_h)
        if x >= 0 and y >= 0 and x + w <= 60 and y + h <= 40:
            assert made == [x, y, w, h]


def test_rounding_beyond_the_edge_is_cut_without_a_word() -> None:
    entries = section({"bbox": [10, 10, 50.5, 30.9]})
    assert check_boxes(entries, sizes(1)).tolist() == [[10, 10, 50, 30]] and not entries.report


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("text", "list of polygons or a run-length"),
        ([1, 2, 3, 4, 5, 6], "list of polygons or a run-length encoding; put the polygon into a list$"),
        ({"size": [60, 40], "counts": "0"}, r"size \[60, 40\], but its image is \[40, 60\]"),
        ({"counts": "0"}, "size None"),
        ({"size": [40, 60]}, "'counts' None"),
        ({"size": [40, 60], "counts": [2399]}, "add up to 2399, but its image has 2400"),
        ({"size": [40, 60], "counts": [-1, 2401]}, "'counts'"),
        ({"size": [40, 60], "counts": "ab~"}, "damaged"),
    ],
)
def test_bad_segmentations(value: Any, why: str) -> None:
    entries = section({"segmentation": value})
    check_segmentations(entries, sizes(1))
    assert entries.report.counts == {"malformed segmentation": 1} and not entries.ok[0]
    with pytest.raises(Exception, match=why):
        entries.report.raise_if_errors()


@pytest.mark.parametrize(
    "bad",
    [
        [1, 2, 3, 4],
        [1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 4, 5, None],
        [0, 0, 0, 0, 0, float("inf")],
        [0, 0, 9, 0, 9, 1e9],
        [0, 0, 9, 0, 9, -(10**7)],
    ],
)
def test_bad_polygons_are_taken_out(bad: Any) -> None:
    good = [1, 2, 3, 4, 5, 6.5]
    entries = section({"segmentation": [good, bad]}, {"segmentation": [bad]}, {"segmentation": [good]}, {})
    assert check_segmentations(entries, sizes(4))[0] == [good]
    assert entries.ok.tolist() == [True, False, True, True]
    assert entries.report.count(Severity.FIXED) == 1 and entries.report.count(Severity.DROPPED) == 1


def test_good_run_lengths() -> None:
    values = [{"size": [40, 60], "counts": [0, 2400]}, {"size": [40, 60], "counts": "Pb2"}]
    entries = section(*({"segmentation": value} for value in values))
    assert check_segmentations(entries, sizes(2)) == values and not entries.report


@pytest.mark.parametrize("bad", [[1, 2], [1, 2, 2, 4], [1, 2, "2"], "abc", [1, 2, float("nan")]])
def test_bad_keypoints(bad: Any) -> None:
    entries = section({"keypoints": [1, 2, 2]}, {"keypoints": bad})
    check_keypoints(entries, 1)
    assert entries.report.counts == {"malformed keypoints": 1} and entries.ok.tolist() == [True, False]


def test_the_number_of_keypoints_is_that_of_most_annotations() -> None:
    entries = section(
        {"keypoints": [1, 2, 2, 3, 4, 2]}, {"keypoints": [1, 2, 2]}, {"keypoints": [1, 2, 2, 3, 4, 2]}, {}
    )
    check_keypoints(entries, None)
    assert entries.ok.tolist() == [True, False, True, True]
