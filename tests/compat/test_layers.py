"""Layers by detectron2's names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drivetrain.compat.layers import (
    CNNBlockBase,
    Conv2d,
    FrozenBatchNorm2d,
    ShapeSpec,
    batched_nms,
    cat,
    get_norm,
    nonzero_tuple,
)
from drivetrain.errors import ModelError


def test_convolution_norm_activation_in_this_order() -> None:
    torch.manual_seed(0)
    layer = Conv2d(3, 4, 3, padding=1, norm=nn.GroupNorm(2, 4), activation=torch.relu)
    plain = nn.Conv2d(3, 4, 3, padding=1)
    plain.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    image = torch.randn(1, 3, 5, 6)
    torch.testing.assert_close(layer(image), torch.relu(layer.norm(plain(image))))  # type: ignore[misc]
    assert sorted(layer.state_dict()) == ["bias", "norm.bias", "norm.weight", "weight"]


def test_norms() -> None:
    assert get_norm("", 8) is None and get_norm(None, 8) is None
    assert isinstance(get_norm("BN", 8), nn.BatchNorm2d)
    assert isinstance(get_norm(lambda channels: nn.InstanceNorm2d(channels), 8), nn.InstanceNorm2d)
    with pytest.raises(ModelError, match="'XN' is no normalisation"):
        get_norm("XN", 8)


def test_boxes_of_other_groups_do_not_suppress() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
    scores = torch.tensor([0.5, 0.9, 0.1])
    assert batched_nms(boxes, scores, torch.tensor([0, 0, 1]), 0.5).tolist() == [1, 2]


def test_small_helpers() -> None:
    one = torch.ones(2)
    assert cat([one]) is one and cat([one, one]).shape == (4,)
    with pytest.raises(ModelError, match="a list or tuple of tensors, not a Tensor"):
        cat(one)  # type: ignore[arg-type]
    assert [t.tolist() for t in nonzero_tuple(torch.tensor([[0, 1], [1, 0]]))] == [[0, 1], [1, 0]]
    assert ShapeSpec(channels=3) == ShapeSpec(3, None, None, None)


def test_batch_norms_are_frozen_as_they_are() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, eps=0.1), nn.BatchNorm2d(4, affine=False)))
    net(torch.randn(8, 3, 5, 5))  # makes statistics
    image = torch.randn(1, 3, 5, 5)
    expected = net.eval()(image)
    assert FrozenBatchNorm2d.convert_frozen_batchnorm(net) is net
    assert [type(layer) for layer in net[1]] == [FrozenBatchNorm2d] * 2  # type: ignore[arg-type]
    torch.testing.assert_close(net.train()(image), expected)
    alone = nn.BatchNorm2d(2)
    assert type(FrozenBatchNorm2d.convert_frozen_batchnorm(alone)) is FrozenBatchNorm2d
    elsewhere = FrozenBatchNorm2d.convert_frozen_batchnorm(nn.BatchNorm2d(2, device="meta"))
    assert {buffer.device.type for buffer in elsewhere.buffers()} == {"meta"}


def test_frozen_norms_are_found_whoever_made_them() -> None:
    class Mine(FrozenBatchNorm2d):
        pass

    made = get_norm("FrozenBN", 4)
    assert isinstance(made, FrozenBatchNorm2d) and isinstance(Mine(4), FrozenBatchNorm2d)
    assert not isinstance(made, Mine) and not isinstance(nn.BatchNorm2d(4), FrozenBatchNorm2d)


def test_a_block_that_is_frozen() -> None:
    class Block(CNNBlockBase):
        def __init__(self) -> None:
            super().__init__(3, 4, 2)
            self.conv = Conv2d(3, 4, 3, stride=2, norm=get_norm("BN", 4))

    block = Block()
    assert (block.in_channels, block.out_channels, block.stride) == (3, 4, 2)
    assert block.freeze() is block and isinstance(block.conv.norm, FrozenBatchNorm2d)
    assert [p.requires_grad for p in block.parameters()] == [False, False]
