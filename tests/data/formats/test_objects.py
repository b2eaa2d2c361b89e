from __future__ import annotations

from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.objects import ObjectTable
from drivetrain.structures import BoxMode


def test_records_with_boxes_cut_to_their_images() -> None:
    report = DefectReport("x")
    table = ObjectTable(report)
    table.add_image("a.jpg", "a", 10, 20)
    table.add("a:1", 2, [1, 2, 3, 4], {"difficult": 1})
    table.add("a:2", 0, [-3, 5, 100, 2], {"segmentation": [[0, 0, 5, 0, 5, 5]]})
    table.add_image("b.jpg", "b", 5, 5)
    table.add("b:1", 1, [0, 0, 0, 3], {})
    table.add("b:2", 1, [7, 7, 2, 2], {})
    assert table.records() == [
        {
            "file_name": "a.jpg",
            "image_id": "a",
            "height": 10,
            "width": 20,
            "annotations": [
                {"category_id": 2, "bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0, "difficult": 1},
                {
                    "category_id": 0,
                    "bbox": [0, 5, 20, 2],
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "iscrowd": 0,
                    "segmentation": [[0, 0, 5, 0, 5, 5]],
                },
            ],
        },
        {"file_name": "b.jpg", "image_id": "b", "height": 5, "width": 5, "annotations": []},
    ]
    assert report.counts == {"degenerate box": 1, "box outside the image": 1, "box over the edge": 1}
    assert not report.has_errors and "a:2" in report.to_text() and "b:1" in report.to_text()


def test_corners_and_keypoints() -> None:
    report = DefectReport("x")
    table = ObjectTable(report)
    table.add_image("a.jpg", "a", 10, 20)
    table.add("a:1", 0, [1, 2, 3, 4], {"keypoints": [1.0, 2.0, 2.0]})
    table.add("a:2", 0, [1, 2, 3, 4], {"keypoints": [1.0, 2.0]})
    (record,) = table.records(BoxMode.XYXY_ABS, 1)
    assert [a["bbox"] for a in record["annotations"]] == [[1, 2, 4, 6]]
    assert record["annotations"][0]["keypoints"] == [1.0, 2.0, 2.0]
    assert report.counts == {"malformed keypoints": 1} and report.has_errors


def test_no_image_at_all() -> None:
    assert ObjectTable(DefectReport("x")).records() == []
