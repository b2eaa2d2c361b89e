"""Backbones with detectron2's arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drivetrain.compat.backbones import Backbone, ResNet, make_default_stages, make_stage
from drivetrain.compat.config import get_cfg
from drivetrain.compat.layers import CNNBlockBase
from drivetrain.errors import ConfigError, ModelError
from drivetrain.modeling import build_model
from drivetrain.modeling.detectron2.backbones import BACKBONES
from drivetrain.modeling.detectron2.fpn import FPN
from drivetrain.modeling.detectron2.layers import ShapeSpec
from drivetrain.modeling.detectron2.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNetOptions, make_resnet


@pytest.mark.parametrize("depth", [18, 50])
@torch.no_grad()
def test_the_default_stages_are_the_networks_of_configs(depth: int) -> None:
    blocks = {"norm": "FrozenBN"} if depth < 50 else {"norm": "FrozenBN", "stride_in_1x1": True}
    net = ResNet(BasicStem(norm="FrozenBN"), ResNet.make_default_stages(depth, **blocks), None, ["res4", "res5"], 2)
    options = ResNetOptions(depth=depth, res2_out_channels=64 if depth < 50 else 256)
    other = make_resnet(options, ["res4", "res5"], freeze_at=2)
    other.load_state_dict(net.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(net(image).values(), other(image).values(), strict=True))
    assert net.output_shape() == other.output_shape()
    trained = [p.requires_grad for p in net.parameters()]
    assert trained == [p.requires_grad for p in other.parameters()] and not all(trained)


def test_the_last_stage_is_the_default() -> None:
    assert ResNet(BasicStem(norm="BN"), make_default_stages(18, norm="BN")[:2]).out_features == ("res3",)


def test_what_networks_of_older_scripts_are_made_with() -> None:
    older = make_stage(BasicBlock, 3, first_stride=2, in_channels=8, out_channels=8, norm="BN")
    assert [block.stride for block in older] == [2, 1, 1]
    net = ResNet(BasicStem(norm="BN"), make_default_stages(18, norm="BN"), out_features=["res2", "res3"])
    assert all(p.requires_grad for p in net.parameters())
    assert net.freeze(2) is net and not hasattr(net, "res4")
    expected = {name: not name.startswith(("stem.", "res2.")) for name, _ in net.named_parameters()}
    assert {name: p.requires_grad for name, p in net.named_parameters()} == expected
    assert not any(isinstance(m, nn.BatchNorm2d) for m in (*net.stem.modules(), *net.res2.modules()))
    assert net.freeze(5) is net and not any(p.requires_grad for p in net.parameters())
    with pytest.raises(ModelError, match="num_classes is 1000, but a ResNet here gives feature maps alone"):
        ResNet(BasicStem(norm="BN"), make_default_stages(18, norm="BN"), 1000)


def test_the_networks_of_the_models_are_backbones_too() -> None:
    class Mine(Backbone):
        pass

    net = make_resnet(ResNetOptions(depth=18, res2_out_channels=64), ["res2", "res3"])
    pyramid = FPN(net, ["res2", "res3"], 8)
    assert isinstance(net, Backbone) and isinstance(pyramid, Backbone) and isinstance(Mine(), Backbone)
    assert not isinstance(net, Mine) and not isinstance(net.stem, Backbone)
    assert isinstance(net.stem, CNNBlockBase) and isinstance(net.res2[0], CNNBlockBase)  # type: ignore[index]


def test_a_stage_of_ones_own() -> None:
    stage = make_stage(
        BottleneckBlock, 2, in_channels=8, out_channels=16, bottleneck_channels=4, stride_per_block=[2, 1], norm="BN"
    )
    assert [block.stride for block in stage] == [2, 1] and nn.Sequential(*stage)(torch.zeros(1, 8, 4, 4)).shape[1] == 16
    named = "drivetrain.modeling.detectron2.resnet.BasicBlock"
    assert isinstance(make_stage(named, 1, in_channels=8, out_channels=8, norm="BN")[0], BasicBlock)
    with pytest.raises(ModelError, match="stride_per_block has 1 values, but the stage has 2 blocks"):
        make_stage(BasicBlock, 2, in_channels=8, out_channels=8, stride_per_block=[1])
    with pytest.raises(ModelError, match="depth is 49, but ResNets have 18, 34, 50, 101, 152 layers"):
        make_default_stages(49)
    with pytest.raises(ConfigError, match=r"'os\.system' is not among what a text may build"):
        make_stage("os.system", 1, in_channels=8, out_channels=8)


def test_one_of_ones_own_as_the_documentation_of_models_shows_it(finder: None) -> None:
    from detectron2.modeling import BACKBONE_REGISTRY
    from detectron2.modeling import Backbone as Base

    assert Base is Backbone and BACKBONE_REGISTRY is BACKBONES

    @BACKBONE_REGISTRY.register()
    class Patches(Base):
        def __init__(self, cfg: Any, input_shape: ShapeSpec) -> None:
            super().__init__()
            self.conv = nn.Conv2d(input_shape.channels, 8, 16, stride=16)
            self._out_features = ["patches"]
            self._out_feature_channels, self._out_feature_strides = {"patches": 8}, {"patches": 16}

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"patches": self.conv(x)}

    try:
        cfg = get_cfg()
        keys = ["MODEL.BACKBONE.NAME", "Patches", "MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"]
        keys += ["MODEL.RPN.IN_FEATURES", ["patches"], "MODEL.ROI_HEADS.IN_FEATURES", ["patches"]]
        cfg.merge_from_list([*keys, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 3])
        model = build_model(cfg).eval()
    finally:
        BACKBONES.remove("Patches")
    assert model.backbone.size_divisibility == 0 and model.preprocess.size_divisibility == 1
    assert model([{"image": torch.zeros(3, 50, 70, dtype=torch.uint8)}])[0]["instances"].image_size == (50, 70)


def test_a_backbone_has_to_say_what_it_does() -> None:
    with pytest.raises(NotImplementedError):
        Backbone()(torch.zeros(1, 3, 8, 8))
