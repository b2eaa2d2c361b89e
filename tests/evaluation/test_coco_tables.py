from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from drivetrain.evaluation.coco_tables import class_rows, count_instances, mean_precision, overall_row


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
    assert (first.name, first.figures["instances"]) == ("a", 3)
    assert list(first.figures) == ["AP", "AP50", "AP75", "instances"]
    assert list(first.figures.values())[:3] == pytest.approx([7.25, 5.0, 7.5])
    assert all(math.isnan(value) for value in list(second.figures.values())[:3])
    (nothing,) = class_rows(None, ["a"], [5])
    assert math.isnan(nothing.figures["AP"]) and nothing.figures["instances"] == 5


def test_overall_row() -> None:
    row = overall_row({"AP": 1.0, "AP50": 2.0, "APs": 9.0}, 7)
    assert row.name == "all" and (row.figures["AP"], row.figures["AP50"], row.figures["instances"]) == (1.0, 2.0, 7)
    assert math.isnan(row.figures["AP75"])


def test_count_instances() -> None:
    annotations = [
        {"image_id": 1, "category_id": 4},
        {"image_id": 1, "category_id": 4, "iscrowd": 1},
        {"image_id": 2, "category_id": 4, "iscrowd": 0},
        {"image_id": 2, "category_id": 9},
    ]
    assert count_instances(annotations, [9, 4, 5], None) == [1, 2, 0]
    assert count_instances(annotations, [9, 4, 5], {1}) == [0, 1, 0]
