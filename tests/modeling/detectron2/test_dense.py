"""What RetinaNet and FCOS share; their losses and predictions are tested with the whole models."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import batch_norm

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.dense import (
    DenseHead,
    DenseOptions,
    LevelBatchNorm,
    Tower,
    best_of_levels,
    detections_of_image,
    focal_loss,
)


def added(deltas: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    return anchors + deltas


OPTIONS = DenseOptions(num_classes=2, score_thresh=0.5, topk_candidates=2)
SCORES = [torch.tensor([[0.9, 0.1], [0.6, 0.7], [0.4, 0.8]]), torch.tensor([[0.2, 0.55]])]
ANCHORS = [
    torch.tensor([[k, k, k + 4.0, k + 4.0] for k in (0.0, 10.0, 20.0)]),
    torch.tensor([[20.0, 20.0, 24.0, 25.0]]),
]
DELTAS = [torch.zeros(3, 4), torch.zeros(1, 4)]


def test_the_best_of_each_level() -> None:
    boxes, kept, kinds = best_of_levels(SCORES, [d + 1 for d in DELTAS], ANCHORS, added, OPTIONS)
    assert kept.tolist() == pytest.approx([0.9, 0.8, 0.55])
    assert kinds.tolist() == [0, 1, 1] and boxes[:, 0].tolist() == [1, 21, 21]


def test_overlapping_ones_of_a_class_are_dropped_across_levels() -> None:
    found = detections_of_image(SCORES, DELTAS, ANCHORS, added, (30, 40), OPTIONS)
    assert found.image_size == (30, 40) and found.pred_classes.tolist() == [0, 1]
    assert found.pred_boxes[:, 0].tolist() == [0, 20]
    kept = DenseOptions(num_classes=2, score_thresh=0.5, topk_candidates=2, nms_thresh=0.9)
    assert len(detections_of_image(SCORES, DELTAS, ANCHORS, added, (30, 40), kept)) == 3
    few = DenseOptions(num_classes=2, score_thresh=0.5, detections_per_image=1)
    assert detections_of_image(SCORES, DELTAS, ANCHORS, added, (30, 40), few).scores.tolist() == pytest.approx([0.9])


def test_focal_loss_written_out() -> None:
    options = DenseOptions(num_classes=2, focal_loss_alpha=0.3, focal_loss_gamma=1.5)
    logits = torch.tensor([[0.4, -1.0], [2.0, 0.1]])
    p = logits.sigmoid()
    wanted = torch.tensor([[0.0, 0.0], [0.0, 1.0]])  # background, and the second class
    right = torch.where(wanted > 0, p, 1 - p)
    weight = torch.where(wanted > 0, 0.3, 0.7)
    expected = (weight * (1 - right) ** 1.5 * -right.log()).sum()
    assert torch.allclose(focal_loss(logits, torch.tensor([2, 1]), options), expected)


def test_batch_norms_have_statistics_of_each_level_and_common_weights() -> None:
    norm = LevelBatchNorm("BN", 3, 2)
    assert [n for n in norm.state_dict() if n[0] in "wb"] == [
        "weight",
        "bias",
    ] and "1.running_mean" in norm.state_dict()
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.bias.fill_(0.5)
    fine, coarse = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4) * 3 + 1
    for level, maps in enumerate((fine, coarse)):
        expected = batch_norm(maps, None, None, torch.full((3,), 2.0), torch.full((3,), 0.5), training=True)
        assert torch.allclose(norm(maps, level), expected, atol=1e-6)
    assert torch.allclose(norm[1].running_mean, 0.1 * coarse.mean(dim=(0, 2, 3)), atol=1e-6)
    assert torch.allclose(norm[0].running_mean, 0.1 * fine.mean(dim=(0, 2, 3)), atol=1e-6)


def test_the_towers_layers() -> None:
    names = [type(layer).__name__ for layer in Tower(32, [32, 64], "GN", 5)]
    assert names == ["Conv2d", "GroupNorm", "ReLU"] * 2
    assert [type(layer).__name__ for layer in Tower(32, [32], "BN", 5)] == ["Conv2d", "LevelBatchNorm", "ReLU"]
    with pytest.raises(ModelError, match="NORM of the head 'NB' is no normalisation"):
        Tower(32, [32], "NB", 5)


def test_predictions_lie_in_the_order_of_places() -> None:
    """A head that sees one bright place gives it the index row * columns + column, for each anchor."""
    head = DenseHead(1, 1, 2, 3, conv_dims=[])
    with torch.no_grad():
        head.cls_score.weight.zero_()
        head.cls_score.weight[:, 0, 1, 1] = torch.arange(1.0, 7.0)
        head.cls_score.bias.zero_()  # type: ignore[union-attr]
    maps = torch.zeros(1, 1, 3, 4)
    maps[0, 0, 1, 2] = 1
    (logits,), (deltas,) = head([maps])
    assert logits.shape == (1, 24, 3) and deltas.shape == (1, 24, 4)
    assert logits[0].nonzero()[:, 0].unique().tolist() == [12, 13]  # place 6, anchors 0 and 1
    assert logits[0, 12:14].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_an_untrained_heads_scores() -> None:
    head = DenseHead(8, 5, 3, 4, conv_dims=[16, 8], prior_prob=0.02)
    (logits,), _ = head([torch.zeros(1, 8, 4, 4)])
    assert torch.allclose(logits.sigmoid(), torch.tensor(0.02))
