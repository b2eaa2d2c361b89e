"""Boxes between pixels and fractions, and the choice of detections."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_convert

from drivetrain.modeling.transformers.detections import fractions_of, pick_detections, pixels_of

BOXES = torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 200.0, 100.0], [150.0, 90.0, 199.0, 99.0]])


def test_fractions_are_of_width_and_height() -> None:
    got = fractions_of(BOXES, (100, 200))
    assert torch.allclose(got, box_convert(BOXES, "xyxy", "cxcywh") / torch.tensor([200, 100, 200, 100]))
    assert got[0].tolist() == pytest.approx([0.1, 0.4, 0.1, 0.4])
    assert torch.allclose(pixels_of(got, (100, 200)), BOXES, atol=1e-4)


def test_with_sigmoids_each_class_of_a_query_is_a_detection() -> None:
    logits = torch.tensor([[2.0, -1.0], [3.0, 1.0], [-5.0, 0.0]])
    found = pick_detections(logits, BOXES, (100, 200), scores="sigmoid", most=4, threshold=0.4)
    assert found.scores.tolist() == pytest.approx(torch.tensor([3.0, 2.0, 1.0, 0.0]).sigmoid().tolist())
    assert found.pred_classes.tolist() == [0, 0, 1, 1]
    assert found.pred_boxes.tensor.equal(BOXES[[1, 0, 1, 2]])


def test_with_a_softmax_a_query_is_one_detection_and_the_last_class_none() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3], [0.05, 0.05, 0.9]]))
    found = pick_detections(logits, BOXES, (100, 200), scores="softmax", most=9, threshold=0.1)
    assert found.scores.tolist() == pytest.approx([0.6, 0.3])
    assert found.pred_classes.tolist() == [0, 1]
    assert found.pred_boxes.tensor.equal(BOXES[[1, 0]])


def test_limits() -> None:
    logits = torch.tensor([[2.0], [1.0], [0.0]])
    assert len(pick_detections(logits, BOXES, (100, 200), scores="sigmoid", most=2, threshold=0.0)) == 2
    assert len(pick_detections(logits, BOXES, (100, 200), scores="sigmoid", most=9, threshold=0.5)) == 2
    assert len(pick_detections(logits[:0], BOXES[:0], (100, 200), scores="sigmoid", most=9, threshold=0.0)) == 0


def test_boxes_are_clipped_and_those_outside_dropped() -> None:
    boxes = torch.tensor([[-10.0, 50.0, 40.0, 130.0], [210.0, 0.0, 230.0, 10.0]])
    found = pick_detections(torch.ones(2, 1), boxes, (100, 200), scores="sigmoid", most=9, threshold=0.0)
    assert found.pred_boxes.tensor.tolist() == [[0, 50, 40, 100]] and found.image_size == (100, 200)
