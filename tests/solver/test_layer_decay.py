"""Rates that fall from layer to layer, and which layers a model has."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ModelError
from drivetrain.modeling import build_model
from drivetrain.modeling.backbones import FeaturePyramid, build_body
from drivetrain.solver.layer_decay import backbone_layers, layerwise_lr_decay
from drivetrain.solver.parameter_groups import get_default_optimizer_params


class Net(nn.Module):
    """A stem, three blocks, a head, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3)])
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(1))


class Detector(nn.Module):
    """A backbone with a feature pyramid, and a head."""

    def __init__(self, name: str, strides: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        self.backbone = FeaturePyramid(build_body(name, strides), 8)
        self.head = nn.Sequential(nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 1))


def test_named_layers() -> None:
    model = Net()
    factor = layerwise_lr_decay(model, 0.5, ["stem", "blocks"])
    assert factor("stem.weight") == 0.5**4
    assert [factor(f"blocks.{i}.0.bias") for i in range(3)] == [0.5**3, 0.5**2, 0.5]
    assert factor("head.weight") == factor("blocks_other.weight") == factor("scale") == 1.0
    groups = get_default_optimizer_params(model, base_lr=1.0, lr_factor_func=factor)
    assert sorted({group["lr"] for group in groups}) == [0.0625, 0.125, 0.25, 0.5, 1.0]


def test_layers_may_nest() -> None:
    layer = nn.TransformerEncoderLayer(8, 2)
    factor = layerwise_lr_decay(layer, 0.5, ["self_attn", "self_attn.out_proj", "linear1"])
    assert factor("self_attn.in_proj_weight") == 0.5**3
    assert factor("self_attn.out_proj.weight") == 0.5**2


def test_layers_of_a_model_without_a_backbone_are_all_but_its_head() -> None:
    assert backbone_layers(Net()) == [
        ("scale", "stem", "bn"),
        ("blocks.0",),
        ("blocks.1",),
        ("blocks.2", "norm"),
    ]
    factor = layerwise_lr_decay(Net(), 0.5)
    names = ("scale", "bn.bias", "blocks.0.0.weight", "norm.weight", "head.weight")
    assert [factor(name) for name in names] == [0.5**4, 0.5**4, 0.5**3, 0.5, 1.0]


# How many layers there are, and what the first and the last are called, written down from the architectures' papers.
BACKBONES: dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]] = {
    "resnet50": (5, ("conv1", "bn1"), ("layer4",)),
    "mobilenet_v3_large": (17, ("0",), ("16",)),
    "timm/test_resnet": (5, ("net.conv1", "net.bn1"), ("net.layer4",)),
    "timm/test_convnext": (5, ("net.stem_0", "net.stem_1"), ("net.stages_3",)),
    "timm/test_efficientnet": (6, ("net.conv_stem", "net.bn1"), ("net.blocks.4",)),
    "timm/regnety_002": (5, ("net.stem",), ("net.s4",)),
    "timm/vgg11": (8, ("net.features_0",), ("net.features_18",)),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_stages_of_convolutional_backbones(name: str) -> None:
    count, first, last = BACKBONES[name]
    layers = backbone_layers(Detector(name))
    assert len(layers) == count
    assert layers[0] == tuple(f"backbone.body.{part}" for part in first)
    assert layers[-1] == tuple(f"backbone.body.{part}" for part in last)


def test_blocks_of_a_transformer_as_timm_numbers_them() -> None:
    """timm's own rule for layer decay (its group_matcher) is the oracle."""
    model = timm.create_model("test_vit", num_classes=3)
    factor = layerwise_lr_decay(model, 0.5)
    matcher = model.group_matcher()
    stem, (block, _), (norm, _) = matcher["stem"], *matcher["blocks"]
    depth = len(model.blocks)
    for name, _ in model.named_parameters():
        if re.match(stem, name):
            assert factor(name) == 0.5 ** (depth + 1), name
        elif found := re.match(block, name):
            assert factor(name) == 0.5 ** (depth - int(found[1])), name
        elif re.match(norm, name):
            assert factor(name) == 0.5, name
        else:
            assert name.startswith("head.") and factor(name) == 1.0
    features = Detector("timm/test_vit", (16,))
    assert len(backbone_layers(features)) == depth + 1
    assert backbone_layers(features)[0][-1] == "backbone.body.net.model.patch_embed"


@pytest.mark.parametrize(
    ("name", "count"), [("resnet18", 5), ("convnext_tiny", 8), ("vit_b_32", 13), ("vgg11", 8), ("swin_t", 8)]
)
def test_classifiers_of_torchvision(name: str, count: int) -> None:
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    layers = backbone_layers(model)
    assert len(layers) == count
    covered = {part for layer in layers for part in layer}
    left = [n for n, _ in model.named_parameters() if not any(n == p or n.startswith(f"{p}.") for p in covered)]
    assert left and all(n.split(".")[0] in ("fc", "classifier", "heads", "head") for n in left)


@pytest.mark.parametrize("name", ["fcos_tiny", "retinanet_tiny", "faster_rcnn_tiny", "ssdlite"])
def test_every_model_with_a_name_shows_its_layers(name: str) -> None:
    cfg = get_cfg()
    cfg.MODEL.NAME, cfg.MODEL.NUM_CLASSES, cfg.MODEL.DEVICE = name, 3, "cpu"
    model = build_model(cfg)
    factor = layerwise_lr_decay(model, 0.5)
    lowered = {n: factor(n) for n, _ in model.named_parameters() if factor(n) < 1}
    below = "backbone." if name == "ssdlite" else "backbone.body."
    assert set(lowered) == {n for n, _ in model.named_parameters() if n.startswith(below)}
    assert len(set(lowered.values())) >= 5
    rates = [lowered[n] for n in lowered]
    assert rates == sorted(rates)  # as parameters come in the order in which they are used


def test_wrappers_are_looked_through() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Net()

    assert backbone_layers(Wrapped()) == [tuple(f"module.{n}" for n in names) for names in backbone_layers(Net())]


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten())])
def test_models_that_show_no_layers(model: Any) -> None:
    with pytest.raises(ModelError, match=r"(Linear|Sequential) does not show its layers: name its modules .*LAYERS="):
        backbone_layers(model)


def test_mistakes() -> None:
    with pytest.raises(ModelError, match=r"no module 'block'; did you mean 'blocks'"):
        layerwise_lr_decay(Net(), 0.5, ["block"])
    for decay in (0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"received {decay}"):
            layerwise_lr_decay(Net(), decay, ["blocks"])
