from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from drivetrain.errors import DatasetError
from drivetrain.evaluation.coco_annotations import annotation_area, clean_annotations, plain_id, records_to_coco
from drivetrain.structures import BoxMode


def clean(*annotations: dict[str, Any], size: tuple[int, int] | None = (20, 30)) -> Any:
    full = [{"image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4], **a} for a in annotations]
    return clean_annotations(full, {8: 1, "x": 2}, {1: size, 2: size}, {3: 30})


def test_ids_are_mapped_and_missing_fields_filled_in() -> None:
    kept, dropped = clean({}, {"image_id": "x", "id": 0, "area": 7.5, "iscrowd": True, "ignore": 1})
    assert not dropped
    assert kept[0] == {"id": 1, "image_id": 1, "category_id": 30, "bbox": [1, 2, 3, 4], "area": 12.0, "iscrowd": 0}
    assert kept[1] == {"id": 2, "image_id": 2, "category_id": 30, "bbox": [1, 2, 3, 4], "area": 7.5, "iscrowd": 1}


def test_what_cannot_be_evaluated_is_counted() -> None:
    kept, dropped = clean(
        {"image_id": 9},
        {"category_id": 4},
        {"bbox": [1, 2, 3]},
        {"bbox": None},
        {"bbox": [1, 2, 3, math.inf]},
        {"bbox": [1, 2, "3", 4]},
        {"image_id": [8]},
        {"category_id": {}},
        {},
    )
    assert len(kept) == 1 and kept[0]["id"] == 1
    assert sorted(dropped.values()) == [2, 2, 4]
    assert dropped["a box that is not 4 finite numbers"] == 4


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        ([[0, 0, 4, 0, 4, 2]], [[0, 0, 4, 0, 4, 2]]),
        ([[0, 0, 4, 0], [0, 0, 4, 0, 4, 2], [1, 2, 3, 4, 5, 6, 7]], [[0, 0, 4, 0, 4, 2]]),
        ([np.array([0.0, 0, 4, 0, 4, 2])], [[0, 0, 4, 0, 4, 2]]),
        ([], None),
        ([[1, 2, 3, 4]], None),
        ({"size": [20, 30], "counts": [600]}, {"size": [20, 30], "counts": [600]}),
        ({"size": [30, 20], "counts": [600]}, None),
        ({"size": [20, 30]}, None),
        ({"size": [20, 30], "counts": [100, 400]}, None),  # with these the comparison of masks would never end
        ({"size": [20, 30], "counts": [700, -100]}, None),
        ({"size": [20, 30], "counts": "0"}, None),
        ({"size": [20, 30], "counts": "hb0"}, {"size": [20, 30], "counts": "hb0"}),
        ({"size": [20, 30], "counts": "é"}, None),
        ("poly", None),
    ],
)
def test_masks(segmentation: Any, expected: Any) -> None:
    kept, _ = clean({"segmentation": segmentation})
    assert kept[0].get("segmentation") == expected


def test_keypoints() -> None:
    points = [1, 2, 2, 0, 0, 0, 5, 6, 1]
    kept, _ = clean(
        {"keypoints": points}, {"keypoints": points, "num_keypoints": 3}, {"keypoints": [1, 2]}, {"keypoints": []}
    )
    assert [k.get("num_keypoints") for k in kept] == [2, 3, None, None]
    assert kept[0]["keypoints"] == points and "keypoints" not in kept[2]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5), st.integers(0, 5))
def test_area_of_rectangles(width: int, height: int, x: int, y: int) -> None:
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    assert annotation_area([x, y, width, height], None) == width * height
    assert annotation_area([0, 0, 1, 1], [polygon, polygon]) == 2 * width * height
    bits = np.zeros((20, 30), dtype=np.uint8)
    bits[y : y + height, x : x + width] = 1
    packed = mask_api.encode(np.asfortranarray(bits))
    assert annotation_area([0, 0, 1, 1], packed) == width * height
    flat = bits.flatten(order="F")
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(edges).tolist()
    counts = [0, *runs] if flat[0] else runs
    assert annotation_area([0, 0, 1, 1], {"size": [20, 30], "counts": counts}) == width * height


def test_records() -> None:
    annotations = [
        {"bbox": [1.1, 2, 11.1, 22], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 1, "area": 9},
        {"bbox": np.array([1, 2, 10, 20]), "bbox_mode": 1, "category_id": 0, "keypoints": [3.5, 4.5, 2]},
        {"bbox": [6, 12, 10, 20, 0], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0},
    ]
    record = {"file_name": "a.jpg", "image_id": "a", "height": 40, "width": 30, "annotations": annotations}
    content = records_to_coco([record, {"image_id": 5}], [10, 20])
    assert content["images"][0] == {"id": "a", "file_name": "a.jpg", "height": 40, "width": 30}
    first, second, third = content["annotations"]
    assert first["bbox"] == pytest.approx([1.1, 2, 10, 20], abs=1e-12)  # not rounded to single precision
    assert (first["category_id"], first["iscrowd"], first["area"], first["image_id"]) == (20, 1, 9, "a")
    assert second["bbox"] == [1, 2, 10, 20] and second["keypoints"] == [3, 4, 2]
    assert third["bbox"] == pytest.approx([1, 2, 10, 20], abs=1e-5)


def test_bad_records() -> None:
    with pytest.raises(DatasetError, match=r"records\[0\] \(a.jpg\) has no 'image_id'"):
        records_to_coco([{"file_name": "a.jpg"}], [1])
    bad = {"image_id": 1, "annotations": [{"bbox": [0, 0, 1, 1], "bbox_mode": 0, "category_id": 2}]}
    with pytest.raises(DatasetError, match="has category_id 2, but the dataset has 2 classes"):
        records_to_coco([bad], [1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"category_id": None},
            r"records\[0\] \(a.jpg\) has category_id None, but the dataset has 1 classes \(0 to 0;",
        ),
        ({"category_id": -1}, "has category_id -1"),
        ({"bbox": None}, r"records\[0\] \(a.jpg\) has an annotation with the bbox None and the bbox_mode 0"),
        ({"bbox": [1, 2, 3]}, r"the bbox \[1, 2, 3\]"),
        ({"bbox": [1, 2, "x", 4]}, "4 numbers, XYXY_ABS or XYWH_ABS"),
        ({"bbox_mode": 17}, "the bbox_mode 17"),
        ({"bbox_mode": BoxMode.XYXY_REL}, "evaluation needs a box of 4 numbers"),
    ],
)
def test_bad_annotations_of_records(change: dict[str, Any], message: str) -> None:
    annotation = {"bbox": [1, 2, 3, 4], "bbox_mode": 0, "category_id": 0, **change}
    record = {"file_name": "a.jpg", "image_id": 1, "annotations": [annotation]}
    with pytest.raises(DatasetError, match=message):
        records_to_coco([record], [1])
    del annotation[next(iter(change))]
    if "bbox_mode" not in change:
        with pytest.raises(DatasetError):
            records_to_coco([record], [1])


def test_keypoints_of_records_as_an_array() -> None:
    annotation = {"bbox": [1, 2, 3, 4], "category_id": 0, "keypoints": np.array([3.5, 4.5, 2.0]), "num_keypoints": None}
    content = records_to_coco([{"image_id": torch.tensor(8), "annotations": [annotation]}], [3])
    assert content["images"][0]["id"] == content["annotations"][0]["image_id"] == 8
    assert content["annotations"][0]["keypoints"] == [3, 4, 2]
    kept, _ = clean(content["annotations"][0])
    assert kept[0]["keypoints"] == [3, 4, 2] and kept[0]["num_keypoints"] == 1


def test_plain_id() -> None:
    assert plain_id(np.int64(3), "x") == 3 and type(plain_id(np.int64(3), "x")) is int
    assert plain_id(torch.tensor(4), "x") == 4
    assert plain_id("a", "x") == "a"
    for bad in (1.5, None, True, torch.tensor(1.5)):
        with pytest.raises(DatasetError, match="here: an image id is an integer or a string"):
            plain_id(bad, "here")
