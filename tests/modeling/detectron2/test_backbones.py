"""Backbones by name, also of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2 import build_detectron2_model
from drivetrain.modeling.detectron2.backbones import BACKBONES, build_backbone
from drivetrain.modeling.detectron2.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from drivetrain.modeling.detectron2.layers import ShapeSpec
from drivetrain.modeling.detectron2.resnet import ResNet

from .conftest import batch_of, config
from .test_build import ENTRY


class Halvings(nn.Module):
    """Feature maps of strides 8 and 16, of any number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 16, 8, stride=8)
        self.second = nn.Conv2d(16, 24, 2, stride=2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first = self.first(images)
        return {"eighth": first, "sixteenth": self.second(first)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"eighth": ShapeSpec(16, stride=8), "sixteenth": ShapeSpec(24, stride=16)}


@pytest.fixture
def registered() -> Iterator[list[Any]]:
    """Backbones of one's own; the list takes the shapes that they are called with."""
    shapes: list[Any] = []

    def build_halvings(cfg: Any, input_shape: ShapeSpec) -> nn.Module:
        shapes.append(input_shape)
        return Halvings(input_shape.channels or 0)

    def build_halvings_fpn(cfg: Any, input_shape: ShapeSpec) -> nn.Module:
        net = build_halvings(cfg, input_shape)
        return FPN(bottom_up=net, in_features=["eighth", "sixteenth"], out_channels=32, norm=cfg.MODEL.FPN.NORM)

    def build_nothing(cfg: Any, input_shape: ShapeSpec) -> nn.Module:
        return nn.Conv2d(3, 3, 1)

    def build_vague(cfg: Any, input_shape: ShapeSpec) -> nn.Module:
        net = Halvings(3)
        net.output_shape = lambda: {"eighth": ShapeSpec(16)}  # type: ignore[method-assign]
        return net

    builders = (build_halvings, build_halvings_fpn, build_nothing, build_vague)
    for builder in builders:
        BACKBONES.register(builder)
    yield shapes
    for builder in builders:
        BACKBONES.remove(builder.__name__)


def own_config(name: str, features: list[str]) -> Any:
    cfg = config("faster", MODEL__BACKBONE__NAME=name)
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = features
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32]]
    return cfg


@pytest.mark.parametrize(
    ("name", "features", "padded"),
    [("build_halvings", ["sixteenth"], (64, 96)), ("build_halvings_fpn", ["p3", "p4"], (64, 96))],
)
def test_one_of_ones_own_learns_under_the_two_stages(
    registered: list[Any], name: str, features: list[str], padded: tuple[int, int]
) -> None:
    model = build_detectron2_model(own_config(name, features))
    assert registered == [ShapeSpec(channels=3)]
    losses = model(batch_of([ENTRY]))
    sum(losses.values()).backward()
    net = model.backbone.bottom_up if name.endswith("fpn") else model.backbone
    assert net.first.weight.grad.abs().sum() > 0 and net.second.weight.grad.abs().sum() > 0
    assert model.preprocess.size_divisibility == (16 if name.endswith("fpn") else 1)
    strides = [8, 16] if name.endswith("fpn") else [16]
    assert list(model.proposal_generator.anchor_generator.strides) == strides
    assert model.eval()(batch_of([ENTRY]))[0]["instances"].image_size == padded


def test_what_is_no_backbone_or_not_there(registered: list[Any]) -> None:
    with pytest.raises(ModelError, match=r"'build_nothing' \(MODEL\.BACKBONE\.NAME\) makes is Conv2d, but"):
        build_backbone(own_config("build_nothing", ["x"]))
    with pytest.raises(
        ModelError, match=r"NAME 'build_halving' has no counterpart here: .*did you mean 'build_halvings'"
    ):
        build_backbone(own_config("build_halving", ["x"]))
    with pytest.raises(ModelError, match=r"\['p2'\] must be of the backbone's features eighth, sixteenth"):
        build_detectron2_model(own_config("build_halvings", ["p2"]))


def test_the_known_ones() -> None:
    tops = {
        "build_resnet_fpn_backbone": (LastLevelMaxPool, "p5"),
        "build_retinanet_resnet_fpn_backbone": (LastLevelP6P7, "res5"),
        "build_fcos_resnet_fpn_backbone": (LastLevelP6P7, "p5"),
    }
    for name, (top, source) in tops.items():
        made = build_backbone(config("faster", MODEL__BACKBONE__NAME=name))
        assert isinstance(made.top_block, top) and made.top_block.in_feature == source
    assert isinstance(build_backbone(config("faster", MODEL__BACKBONE__NAME="build_resnet_backbone")), ResNet)
    retinanet = {"MODEL__BACKBONE__NAME": "build_retinanet_resnet_fpn_backbone"}
    with pytest.raises(ModelError, match="must have res5, from which p6 is made"):
        build_backbone(config("faster", **retinanet, MODEL__RESNETS__OUT_FEATURES=["res4"]))


def test_images_have_as_many_channels_as_means() -> None:
    cfg = config("faster")
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [1.0] * 4, [1.0] * 4
    model = build_detectron2_model(cfg)
    assert model.backbone.bottom_up.stem.conv1.weight.shape[1] == 4
    image = torch.zeros(4, 64, 64, dtype=torch.uint8)
    assert len(model.eval()([{"image": image}])) == 1
