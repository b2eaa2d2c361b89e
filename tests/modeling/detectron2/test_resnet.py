"""Residual networks, against torchvision's with the same weights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torchvision
from torchvision.ops import FrozenBatchNorm2d

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.resnet import ResNetOptions, make_resnet

FEATURES = ["res2", "res3", "res4", "res5"]


def renamed(name: str) -> str:
    """A name of torchvision's as detectron2 has it."""
    name = re.sub(r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    name = re.sub(r"bn(\d)", r"conv\1.norm", name)
    return f"stem.{name}" if name.startswith("conv1") else name


@pytest.mark.parametrize(
    ("theirs", "options"),
    [
        ("resnet18", {"depth": 18, "res2_out_channels": 64}),
        ("resnet50", {"depth": 50}),
        ("resnet101", {"depth": 101}),
        ("resnext50_32x4d", {"depth": 50, "num_groups": 32, "width_per_group": 4}),
    ],
)
@torch.no_grad()
def test_equal_to_torchvision(theirs: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, theirs)(norm_layer=FrozenBatchNorm2d).eval()
    with torch.device("meta"):
        net = make_resnet(ResNetOptions(**options, stride_in_1x1=False), FEATURES).eval()
    weights = {renamed(k): v for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    net.load_state_dict(weights, assign=True)
    image = torch.randn(1, 3, 64, 64)
    expected = reference.maxpool(reference.relu(reference.bn1(reference.conv1(image))))
    for k, features in enumerate(net(image).values(), start=1):
        expected = getattr(reference, f"layer{k}")(expected)
        assert torch.allclose(features, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@torch.no_grad()
def test_dilation_is_that_of_torchvision_but_in_the_first_block_too() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.resnet50(
        norm_layer=FrozenBatchNorm2d, replace_stride_with_dilation=[False, False, True]
    ).eval()
    reference.layer4[0].conv2.dilation = reference.layer4[0].conv2.padding = (2, 2)
    net = make_resnet(ResNetOptions(stride_in_1x1=False, res5_dilation=2), ["res5"]).eval()
    net.load_state_dict({renamed(k): v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    image = torch.randn(1, 3, 64, 64)
    expected = reference.maxpool(reference.relu(reference.bn1(reference.conv1(image))))
    for k in range(1, 5):
        expected = getattr(reference, f"layer{k}")(expected)
    assert torch.allclose(net(image)["res5"], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_where_the_stride_is() -> None:
    def strides(in_1x1: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        net = make_resnet(ResNetOptions(stride_in_1x1=in_1x1), ["res3"])
        return net.res3[0].conv1.stride, net.res3[0].conv2.stride

    assert strides(True) == ((2, 2), (1, 1)) and strides(False) == ((1, 1), (2, 2))


def test_dilation_keeps_the_size_of_the_last_stage() -> None:
    net = make_resnet(ResNetOptions(res5_dilation=2), ["res4", "res5"])
    out = net(torch.zeros(1, 3, 64, 64))
    assert out["res5"].shape[-2:] == out["res4"].shape[-2:] == (4, 4)
    strides = {name: shape.stride for name, shape in net.output_shape().items()}
    assert strides == {"res4": 16, "res5": 16} and net.res5[1].conv2.dilation == (2, 2)


def test_frozen_stages_and_stages_that_nobody_asks_for() -> None:
    net = make_resnet(ResNetOptions(norm="BN"), ["res3"], freeze_at=2)
    trained = {name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"res3"} and not hasattr(net, "res4")
    assert isinstance(net.res2[0].conv1.norm, FrozenBatchNorm2d) and list(net(torch.zeros(1, 3, 32, 32))) == ["res3"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNetOptions(depth=51), "DEPTH is 51, but ResNets have 18, 34, 50, 101, 152"),
        (lambda: ResNetOptions(depth=18), "depth 18 .* RES2_OUT_CHANNELS 64"),
        (lambda: ResNetOptions(res5_dilation=3), "RES5_DILATION must be 1 or 2"),
        (lambda: make_resnet(ResNetOptions(), ["res6"]), r"must be of res2, res3, res4, res5, not \['res6'\]"),
    ],
)
def test_networks_that_there_are_not(make: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()
