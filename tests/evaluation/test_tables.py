from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from drivetrain.evaluation.tables import (
    ClassRow,
    ResultTable,
    class_rows,
    count_instances,
    mean_precision,
    results_table,
)

NAN = math.nan


def table(*rows: ClassRow) -> ResultTable:
    metrics = {"AP": 41.234, "AP50": 60.0, "AP75": NAN, "AP-cat": 3.0}
    return ResultTable(task="bbox", dataset="val", images=7, metrics=metrics, classes=rows)


def test_text() -> None:
    text = str(table(ClassRow("cat", 3.0, 100.0, NAN, 12), ClassRow("a long name", NAN, NAN, NAN, 0)))
    assert text.splitlines() == [
        "bbox on val, 7 images, average precision in percent:",
        "     AP   AP50  AP75",
        "  41.23  60.00     -",
        "",
        "  class           AP    AP50  AP75  instances",
        "  cat           3.00  100.00     -         12",
        "  a long name      -       -     -          0",
        "  all          41.23   60.00     -         12",
    ]


def test_control_characters_of_a_name_are_escaped() -> None:
    text = str(table(ClassRow("a\x1b[2J\nb", 1, 1, 1, 1)))
    assert "\x1b" not in text and r"a\x1b[2J\nb" in text


def test_rows() -> None:
    rows = table(ClassRow("cat", 3.0, 100.0, 1.0, 12), ClassRow("dog", 4.0, 5.0, 6.0, 1)).rows()
    assert rows[0] == {"name": "cat", "ap": 3.0, "ap50": 100.0, "ap75": 1.0, "instances": 12}
    assert [row["name"] for row in rows] == ["cat", "dog", "all"]
    assert rows[2]["ap"] == 41.234 and rows[2]["instances"] == 13


def test_a_table_without_classes_can_be_shown() -> None:
    assert "all" in str(table())


def test_results_of_several_tasks_and_datasets() -> None:
    results = {"bbox": {"AP": 41.234, "AP50": 60, "AP-cat": 1.0}, "segm": {"AP": NAN, "APx": 3}, "top1": 0.5}
    assert results_table(results).splitlines() == [
        "  task     AP   AP50   APx  value",
        "  bbox  41.23  60.00     -      -",
        "  segm      -      -  3.00      -",
        "  top1      -      -     -   0.50",
    ]
    assert "  a/bbox  1.00\n  b/bbox  2.00" in results_table({"a": {"bbox": {"AP": 1}}, "b": {"bbox": {"AP": 2}}})
    assert results_table({}) == "  no results"


def test_mean_precision() -> None:
    assert mean_precision(np.array([[0.5, -1], [1.0, -1]])) == pytest.approx(75)
    assert math.isnan(mean_precision(np.array([-1.0, -1.0])))
    assert math.isnan(mean_precision(np.zeros((0, 3))))


def test_class_rows() -> None:
    thresholds = np.linspace(0.5, 0.95, 10)
    precision = np.full((10, 101, 2, 4, 3), 0.9)  # other area ranges and limits must not be read
    precision[:, :, 0, 0, -1] = thresholds[:, None] / 10
    precision[:, :, 1, 0, -1] = -1
    evaluation = SimpleNamespace(eval={"precision": precision}, params=SimpleNamespace(iouThrs=thresholds))
    first, second = class_rows(evaluation, ["a", "b"], [3, 0])
    assert (first.name, first.instances) == ("a", 3)
    assert [first.ap, first.ap50, first.ap75] == pytest.approx([7.25, 5.0, 7.5])
    assert math.isnan(second.ap) and math.isnan(second.ap50) and math.isnan(second.ap75)
    (nothing,) = class_rows(None, ["a"], [5])
    assert math.isnan(nothing.ap) and nothing.instances == 5


def test_count_instances() -> None:
    annotations = [
        {"image_id": 1, "category_id": 4},
        {"image_id": 1, "category_id": 4, "iscrowd": 1},
        {"image_id": 2, "category_id": 4, "iscrowd": 0},
        {"image_id": 2, "category_id": 9},
    ]
    assert count_instances(annotations, [9, 4, 5], None) == [1, 2, 0]
    assert count_instances(annotations, [9, 4, 5], {1}) == [0, 1, 0]
