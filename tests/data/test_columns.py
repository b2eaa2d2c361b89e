from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from drivetrain.data.column_builder import pack_records
from drivetrain.data.columns import unpack_record
from drivetrain.structures import BoxMode


def through(record: dict[str, Any]) -> dict[str, Any]:
    columns = pack_records([{"file_name": "before.jpg", "annotations": [{"bbox": [1, 2, 3, 4]}]}, record, {"x": 1}])
    return unpack_record(columns, 1)


def annotated(**annotation: Any) -> dict[str, Any]:
    return {"file_name": "a.jpg", "annotations": [annotation, {"category_id": 7}]}


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"annotations": []},
        {"file_name": "ä/\udcff日.jpg", "image_id": 2**40, "height": 3, "width": 4},
        {"image_id": "name", "height": None, "width": 4.5},
        {"image_id": 2**70, "sem_seg_file_name": "a.png", "nested": {"a": [1, None, {"b": True}]}},
        annotated(bbox=[0.1, 2, 3, 4], bbox_mode=BoxMode.XYXY_ABS, category_id=3, iscrowd=0),
        annotated(bbox=[1, 2, 3, 4, 5.5], bbox_mode=BoxMode.XYWHA_ABS),
        annotated(bbox=None, category_id="cat", area="big", keypoints=None, segmentation=None),
        annotated(segmentation=[[1, 2, 3.25, 4, 5, 6], [0.1] * 8], area=12.125),
        annotated(segmentation=[]),
        annotated(segmentation=[[]]),
        annotated(segmentation=[[1, 2, "x"]]),
        annotated(segmentation={"size": [4, 5], "counts": "03 x"}),
        annotated(segmentation={"size": [4, 5], "counts": b"\xff 1 2"}),
        annotated(segmentation={"size": [4, 5], "counts": [3, 4, 13]}),
        annotated(segmentation={"size": [4, 5], "counts": []}),
        annotated(segmentation={"size": [4, 5]}),
        annotated(keypoints=[1, 2, 2, 3.5, 4.5, 1], track=5, attributes={"occluded": True}),
        annotated(keypoints=[2**60 + 1, 0, 0]),
        annotated(bbox_mode=99, iscrowd=1),
    ],
)
def test_a_record_comes_back_equal(record: dict[str, Any]) -> None:
    assert through(record) == record


def test_box_modes_come_back_as_such() -> None:
    made = through(annotated(bbox=[1, 2, 3, 4], bbox_mode=1, category_id=0, iscrowd=0))["annotations"][0]
    assert isinstance(made["bbox_mode"], BoxMode)


def test_arrays_and_tuples_come_back_as_lists() -> None:
    record = annotated(
        bbox=np.array([1.5, 2, 3, 4]), segmentation=[np.arange(6)], keypoints=(1, 2, 2), score=np.float32(0.5)
    )
    made = through(record)["annotations"][0]
    assert made == {"bbox": [1.5, 2, 3, 4], "segmentation": [[0, 1, 2, 3, 4, 5]], "keypoints": [1, 2, 2], "score": 0.5}
    assert through({"size": (1, 2), "image_id": np.int64(5)}) == {"size": [1, 2], "image_id": 5}
