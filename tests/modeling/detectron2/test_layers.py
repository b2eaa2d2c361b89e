"""Convolutions with their normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import relu
from torchvision.ops import FrozenBatchNorm2d

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.layers import NormConv2d, freeze, get_norm


def test_norms_by_name() -> None:
    assert get_norm("", 8) is None
    assert isinstance(get_norm("FrozenBN", 8), FrozenBatchNorm2d) and isinstance(get_norm("BN", 8), nn.BatchNorm2d)
    group = get_norm("GN", 64)
    assert isinstance(group, nn.GroupNorm) and group.num_groups == 32
    with pytest.raises(ModelError, match="KEY 'FrozenBM' is no normalisation; did you mean 'FrozenBN'"):
        get_norm("FrozenBM", 8, "KEY")
    with pytest.raises(ModelError, match="32 groups of channels, but there are 40"):
        get_norm("GN", 40)


def test_a_convolution_then_norm_then_activation() -> None:
    conv = NormConv2d(3, 4, 3, padding=1, norm="BN", activation=relu).eval()
    assert list(conv.state_dict())[:3] == ["weight", "norm.weight", "norm.bias"] and conv.bias is None
    conv.norm.running_mean.fill_(0.3)
    image = torch.randn(1, 3, 5, 5)
    plain = torch.nn.functional.conv2d(image, conv.weight, padding=1)
    assert torch.allclose(conv(image), relu((plain - 0.3) / (1 + 1e-5) ** 0.5), atol=1e-6)
    assert NormConv2d(3, 4, 3).bias is not None


def test_what_is_frozen_learns_nothing_and_keeps_its_statistics() -> None:
    net = nn.Sequential(NormConv2d(3, 4, 3, norm="BN"), nn.Conv2d(4, 2, 1))
    net[0].norm.running_var.fill_(2.0)
    before = net.eval()(torch.ones(1, 3, 4, 4))
    freeze(net)
    assert not any(p.requires_grad for p in net.parameters())
    assert torch.allclose(net.train()(torch.ones(1, 3, 4, 4)), before, atol=1e-6)
    assert isinstance(net[0].norm, FrozenBatchNorm2d)
