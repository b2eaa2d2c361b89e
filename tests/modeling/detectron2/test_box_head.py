"""Classes and final places of boxes."""

from __future__ import annotations

import math

import pytest
import torch

from drivetrain.modeling.detectron2.box_head import BoxHead, BoxPredictor, PredictorOptions
from drivetrain.modeling.detectron2.regression import BoxLoss

from .slow import moved, without_overlapping

PROPOSALS = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0], [21.0, 20.0, 41.0, 40.0]])


def test_layers_and_their_names() -> None:
    head = BoxHead(4, 7, (6,), (10, 12), "")
    assert list(head.state_dict())[::2] == ["conv1.weight", "fc1.weight", "fc2.weight"]
    assert head(torch.zeros(2, 4, 7, 7)).shape == (2, 12) and head.channels == 12
    plain = BoxHead(4, 7, (6,), (), "")
    assert plain(torch.zeros(2, 4, 7, 7)).shape == (2, 6, 7, 7) and plain.channels == 6


def test_losses_by_hand() -> None:
    predictor = BoxPredictor(4, PredictorOptions(num_classes=2, box_loss_weight=3.0))
    scores = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]]))
    deltas = torch.zeros(3, 8)
    deltas[0, 4:] = 99.0  # of a class that it is not
    losses = predictor.losses(scores, deltas, PROPOSALS, torch.tensor([0, 2, 1]), PROPOSALS + 1)
    assert losses["loss_cls"].item() == pytest.approx(-(math.log(0.5) + math.log(0.6) + math.log(0.8)) / 3)
    moved = 10 * 2 * (1 / 10) + 10 * 2 * (1 / 20)  # dx and dy of the two objects
    assert losses["loss_box_reg"].item() == pytest.approx(3 * moved / 3, rel=1e-5)


def test_predictions() -> None:
    options = PredictorOptions(num_classes=2, score_thresh=0.3, nms_thresh=0.5)
    scores = torch.log(torch.tensor([[0.6, 0.35, 0.05], [0.1, 0.8, 0.1], [0.1, 0.7, 0.2]]))
    boxes, values, kinds = BoxPredictor(4, options).detections(scores, torch.zeros(3, 8), PROPOSALS, (30, 38))
    assert values.tolist() == pytest.approx([0.8, 0.6, 0.35]) and kinds.tolist() == [1, 0, 1]
    assert boxes.tolist() == [[20, 20, 38, 30], [0, 0, 10, 10], [0, 0, 10, 10]]
    few = PredictorOptions(num_classes=2, score_thresh=0.3, detections_per_image=1)
    assert len(BoxPredictor(4, few).detections(scores, torch.zeros(3, 8), PROPOSALS, (30, 38))[0]) == 1


@pytest.mark.parametrize(
    ("agnostic", "score", "nms", "count", "weights"),
    [
        (False, 0.05, 0.5, 100, (10.0, 10.0, 5.0, 5.0)),
        (True, 0.05, 0.5, 100, (10.0, 10.0, 5.0, 5.0)),
        (False, 0.3, 0.2, 5, (1.0, 2.0, 3.0, 4.0)),
        (True, 0.2, 0.8, 7, (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_predictions_box_by_box(
    agnostic: bool, score: float, nms: float, count: int, weights: tuple[float, ...]
) -> None:
    options = PredictorOptions(
        num_classes=3,
        loss=BoxLoss(weights),
        class_agnostic=agnostic,
        score_thresh=score,
        nms_thresh=nms,
        detections_per_image=count,
    )
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(30, 2, generator=generator) * 40
    proposals = torch.cat((corners, corners + 5 + torch.rand(30, 2, generator=generator) * 40), dim=1)
    scores = torch.randn(30, 4, generator=generator)
    deltas = torch.randn(30, 4 if agnostic else 12, generator=generator)
    candidates = []
    for box, row, changes in zip(proposals.tolist(), scores.softmax(dim=1).tolist(), deltas.tolist(), strict=True):
        for kind in range(3):
            if row[kind] > score:
                own = changes if agnostic else changes[4 * kind : 4 * kind + 4]
                candidates.append((row[kind], kind, moved(box, own, weights, (60, 80))))
    expected = without_overlapping(sorted(candidates, reverse=True), nms)[:count]
    boxes, values, kinds = BoxPredictor(4, options).detections(scores, deltas, proposals, (60, 80))
    assert values.tolist() == pytest.approx([one[0] for one in expected], rel=1e-5)
    assert kinds.tolist() == [one[1] for one in expected] and 0 < len(expected) < len(candidates)
    assert torch.allclose(boxes, torch.tensor([one[2] for one in expected]), atol=1e-3)


def test_one_box_for_all_classes() -> None:
    predictor = BoxPredictor(4, PredictorOptions(num_classes=5, class_agnostic=True, score_thresh=0.1))
    assert predictor.bbox_pred.out_features == 4 and predictor.cls_score.out_features == 6
    scores, deltas = predictor(torch.randn(3, 4))
    assert len(predictor.detections(scores, deltas, PROPOSALS, (50, 50))[0]) > 3
    losses = predictor.losses(scores, torch.zeros(3, 4), PROPOSALS, torch.tensor([4, 0, 5]), PROPOSALS)
    assert losses["loss_box_reg"] == 0


def test_predictions_that_are_no_numbers_drop_out() -> None:
    scores = torch.tensor([[5.0, 0.0, 0.0], [float("nan")] * 3, [5.0, 0.0, 0.0]])
    deltas = torch.zeros(3, 8)
    deltas[2] = float("nan")
    boxes, _, _ = BoxPredictor(4, PredictorOptions(num_classes=2)).detections(scores, deltas, PROPOSALS, (50, 50))
    assert boxes.tolist() == [[0, 0, 10, 10]]
