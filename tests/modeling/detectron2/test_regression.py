"""Differences of boxes, their losses, and which boxes belong to which."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import generalized_box_iou

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.regression import BoxLoss, match, sample

BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 5.0, 25.0, 15.0]])
TRUTH = torch.tensor([[1.0, 0.0, 9.0, 12.0], [5.0, 5.0, 25.0, 15.0]])


def test_differences_by_hand() -> None:
    loss = BoxLoss((10.0, 10.0, 5.0, 5.0))
    deltas = torch.tensor([[1.0, -2.0, 0.0, 0.0]])
    assert loss.decode(deltas, BOXES[1:]).tolist() == [[7.0, 3.0, 27.0, 13.0]]
    # Centre moved by (0, 0.1), width times 0.8, height times 1.2.
    wanted = torch.tensor([[0.0, 1.0, 5 * torch.log(torch.tensor(0.8)), 5 * torch.log(torch.tensor(1.2))]])
    assert loss(torch.zeros(1, 4), BOXES[:1], TRUTH[:1]).item() == pytest.approx(wanted.abs().sum().item(), rel=1e-5)
    smooth = BoxLoss((10.0, 10.0, 5.0, 5.0), beta=4.0)(torch.zeros(1, 4), BOXES[:1], TRUTH[:1])
    assert smooth.item() == pytest.approx((wanted**2 / 8).sum().item(), rel=1e-5)


def test_losses_on_overlaps() -> None:
    loss = BoxLoss((1.0,) * 4, "giou")(torch.zeros(2, 4), BOXES, TRUTH)
    expected = (1 - generalized_box_iou(BOXES, TRUTH).diag()).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(ModelError, match="must be smooth_l1, giou, diou or ciou, not 'iou'"):
        BoxLoss((1.0,) * 4, "iou")


def test_boxes_find_their_objects() -> None:
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 4.0], [80.0, 0.0, 90.0, 9.0], [55.0, 55.0, 65.0, 65.0]]
    )
    assert match(truth, boxes, (0.3, 0.7), False).tolist() == [0, -2, -1, -1]
    assert match(truth, boxes, (0.3, 0.7), True).tolist() == [0, -2, -1, 1]
    assert match(truth[:0], boxes, (0.3, 0.7), True).tolist() == [-1] * 4


def test_samples() -> None:
    torch.manual_seed(0)
    matches = torch.tensor([0, 1, 0, 2] + [-1] * 20 + [-2] * 5)
    positive, negative = sample(matches, 8, 0.25)
    assert len(positive) == 2 and len(negative) == 6
    assert (matches[positive] >= 0).all() and (matches[negative] == -1).all()
    positive, negative = sample(matches, 16, 0.5)
    assert len(positive) == 4 and len(negative) == 12  # background fills what objects leave
