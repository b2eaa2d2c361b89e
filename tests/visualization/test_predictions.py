"""Predictions and dataset records on their image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.structures import Boxes, BoxMode, Instances, bitmask_to_rle
from drivetrain.visualization.drawing import draw_instances
from drivetrain.visualization.predictions import draw_predictions, draw_record

_IMAGE = np.random.default_rng(1).integers(90, 160, (60, 80, 3), dtype=np.uint8)
_NAMES = ["cat", "dog"]


def _instances(**more: Any) -> Instances:
    return Instances(
        (60, 80),
        pred_boxes=Boxes(torch.tensor([[10.0, 10, 40, 40], [30, 20, 70, 55]])),
        scores=torch.tensor([0.9, 0.3]),
        pred_classes=torch.tensor([0, 1]),
        **more,
    )


def test_predictions_are_those_above_the_threshold() -> None:
    expected = draw_instances(
        _IMAGE, boxes=[[10, 10, 40, 40]], classes=[0], scores=[0.9], class_names=_NAMES, min_side=480
    )
    assert np.array_equal(draw_predictions(_IMAGE, _instances(), _NAMES), expected)
    none = draw_predictions(_IMAGE, _instances(), _NAMES, score_threshold=0.95, min_side=0)
    assert np.array_equal(none, _IMAGE)


def test_masks_and_keypoints_are_drawn_when_there() -> None:
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 15:30, 15:30] = True
    points = torch.tensor([[[20.0, 20.0, 1.0]], [[50.0, 40.0, 1.0]]])
    drawn = draw_predictions(_IMAGE, _instances(pred_masks=masks, pred_keypoints=points), _NAMES, min_side=0)
    expected = draw_instances(
        _IMAGE,
        boxes=[[10, 10, 40, 40]],
        classes=[0],
        scores=[0.9],
        class_names=_NAMES,
        masks=masks[:1],
        keypoints=points[:1],
    )
    assert np.array_equal(drawn, expected)
    assert not np.array_equal(drawn, draw_predictions(_IMAGE, _instances(), _NAMES, min_side=0))
    run_lengths = [bitmask_to_rle(mask) for mask in masks.numpy()]
    more = {"pred_masks": run_lengths, "pred_keypoints": points}
    assert np.array_equal(draw_predictions(_IMAGE, _instances(**more), _NAMES, min_side=0), drawn)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="60x80, but one of 30x80"):
        draw_predictions(_IMAGE[:30], _instances(), _NAMES)
    with pytest.raises(ValueError, match="99x80, but one of 60x80"):
        draw_record(_IMAGE, {"height": 99, "width": 80}, _NAMES)


def test_a_record_with_boxes_in_either_notation() -> None:
    xywh = {"bbox": [10, 10, 30, 30], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    xyxy = {"bbox": [10, 10, 40, 40], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    expected = draw_instances(_IMAGE, boxes=[[10, 10, 40, 40]], classes=[0], labels=["cat"])
    for annotation in (xywh, xyxy):
        record = {"height": 60, "width": 80, "annotations": [annotation]}
        assert np.array_equal(draw_record(_IMAGE, record, _NAMES, min_side=0), expected)


def test_a_record_with_everything() -> None:
    box = {"bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    runs = np.zeros((60, 80), dtype=bool)
    runs[45:55, 5:9] = True
    counts = np.diff(np.flatnonzero(np.diff(runs.T.ravel(), prepend=not runs[0, 0], append=2))).tolist()
    record = {
        "height": 60,
        "width": 80,
        "annotations": [
            {**box, "bbox": [10, 10, 40, 40], "segmentation": [[10, 10, 40, 10, 40, 40, 10, 40]]},
            {**box, "bbox": [5, 45, 9, 55], "segmentation": {"size": [60, 80], "counts": counts}, "iscrowd": 1},
            {**box, "bbox": [50, 10, 70, 30], "keypoints": [60, 20, 2, 0, 0, 0]},
        ],
    }
    masks = np.zeros((3, 60, 80), dtype=bool)
    masks[0, 10:40, 10:40] = True
    masks[1] = runs
    points = np.zeros((3, 2, 3))
    points[2, 0] = (60, 20, 2)
    expected = draw_instances(
        _IMAGE,
        boxes=[[10, 10, 40, 40], [5, 45, 9, 55], [50, 10, 70, 30]],
        classes=[1, 1, 1],
        labels=["dog", "dog (crowd)", "dog"],
        masks=masks,
        keypoints=points,
    )
    assert np.array_equal(draw_record(_IMAGE, record, _NAMES, min_side=0), expected)


def test_records_without_annotations_and_unknown_classes() -> None:
    assert np.array_equal(draw_record(_IMAGE, {"height": 60, "width": 80}, min_side=0), _IMAGE)
    record = {"annotations": [{"bbox": [10, 10, 30, 30], "bbox_mode": 1, "category_id": 7}]}
    expected = draw_instances(_IMAGE, boxes=[[10, 10, 40, 40]], classes=[7], labels=["class 7"])
    assert np.array_equal(draw_record(_IMAGE, record, _NAMES, min_side=0), expected)
