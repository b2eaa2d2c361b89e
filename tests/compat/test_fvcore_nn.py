"""Initial weights and a loss, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from drivetrain.compat.fvcore_nn import c2_msra_fill, c2_xavier_fill, smooth_l1_loss


def test_weights_have_the_variance_of_their_rule() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(30, 60, 3)
    c2_msra_fill(layer)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (60 * 9)), rel=0.03)
    assert layer.bias is not None and not layer.bias.any()
    linear = nn.Linear(400, 50, bias=False)
    c2_xavier_fill(linear)
    bound = math.sqrt(3 / 400)
    assert linear.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert linear.weight.std().item() == pytest.approx(math.sqrt(1 / 400), rel=0.03)


def test_the_loss_on_both_sides_of_beta() -> None:
    difference = torch.tensor([0.0, 0.5, -3.0])
    target = torch.zeros(3)
    assert smooth_l1_loss(difference, target, 1.0).tolist() == [0.0, 0.125, 2.5]
    assert smooth_l1_loss(difference, target, 0.0).tolist() == [0.0, 0.5, 3.0]
    assert smooth_l1_loss(difference, target, 2.0, "sum").item() == pytest.approx(0.0625 + 2.0)
    assert smooth_l1_loss(target[:0], target[:0], 1.0, reduction="mean").item() == 0.0
