"""Models from lazy configs are those of the YAML configs, whose numbers were compared with detectron2's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.compat import lazy_models, model_zoo
from drivetrain.compat.lazy import LazyConfig, instantiate
from drivetrain.modeling.detectron2 import build_detectron2_model
from drivetrain.modeling.detectron2.anchors import AnchorGenerator, GivenAnchors
from drivetrain.modeling.detectron2.regression import BoxLoss

PAIRS = {
    "mask_rcnn_fpn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
    "mask_rcnn_c4": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x",
    "keypoint_rcnn_fpn": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x",
    "retinanet": "COCO-Detection/retinanet_R_50_FPN_1x",
    "fcos": "COCO-Detection/fcos_R_50_FPN_1x",
}


def plain(value: Any) -> Any:
    """A value as something that is compared by what it holds."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, BoxLoss) or (hasattr(value, "__dict__") and not callable(value)):
        return {key: plain(item) for key, item in vars(value).items()}
    return value


def numbers(model: nn.Module) -> dict[str, Any]:
    """Everything in a model that is neither a tensor nor a module; without the anchor generators."""
    own = set(vars(nn.Module()))
    return {
        f"{name}.{key}": plain(value)
        for name, module in model.named_modules()
        if "anchor_generator" not in name
        for key, value in vars(module).items()
        if key not in own and key != "training"
    }


@pytest.mark.parametrize("name", PAIRS)
def test_every_number_is_that_of_the_yaml_config(name: str) -> None:
    node = getattr(lazy_models, name)()
    bottom = node.backbone.bottom_up if "bottom_up" in node.backbone else node.backbone
    bottom.freeze_at = 2
    with torch.device("meta"):
        model = instantiate(node)
        expected = build_detectron2_model(model_zoo.get_config(f"{PAIRS[name]}.yaml"))
    described = [(n, p.shape, p.requires_grad) for n, p in model.named_parameters()]
    assert described == [(n, p.shape, p.requires_grad) for n, p in expected.named_parameters()]
    assert list(model.state_dict()) == list(expected.state_dict())
    found, wanted = numbers(model), numbers(expected)
    assert len(wanted) > 100 and {k: v for k, v in wanted.items() if found.get(k) != v} == {}
    assert model.preprocess.size_divisibility == expected.preprocess.size_divisibility
    if name != "fcos":
        generators = [m for m in expected.modules() if isinstance(m, AnchorGenerator)]
        given = [m for m in model.modules() if isinstance(m, GivenAnchors)]
        assert [g.num_anchors for g in given] == [g.num_anchors for g in generators] and len(given) == 1


@pytest.mark.parametrize("name", ["mask_rcnn_fpn", "retinanet"])
def test_the_anchors_too(name: str) -> None:
    node = getattr(lazy_models, name)()
    part = node.proposal_generator if "proposal_generator" in node else node
    cfg = model_zoo.get_config(f"{PAIRS[name]}.yaml")
    section = cfg.MODEL.ANCHOR_GENERATOR
    strides = [4, 8, 16, 32, 64] if name == "mask_rcnn_fpn" else [8, 16, 32, 64, 128]
    expected = AnchorGenerator(section.SIZES, section.ASPECT_RATIOS, strides, section.OFFSET)
    maps = [torch.zeros(1, 1, 64 // stride + 1, 96 // stride + 1) for stride in strides]
    for found, wanted in zip(instantiate(part.anchor_generator)(maps), expected(maps), strict=True):
        assert torch.equal(found.tensor, wanted)


def test_numbers_are_changed_in_one_place() -> None:
    node = lazy_models.mask_rcnn_fpn()
    node.roi_heads.num_classes = 3
    node.backbone.bottom_up.stages.depth = 101
    node.roi_heads.box_predictor.test_score_thresh = 0.5
    with torch.device("meta"):
        model = instantiate(node)
    assert model.num_classes == 3 and model.roi_heads.mask_head.predictor.out_channels == 3
    assert len(model.backbone.bottom_up.res4) == 23 and model.roi_heads.box_predictor.options.score_thresh == 0.5


@pytest.mark.parametrize("name", ["fcos", "mask_rcnn_c4"])
def test_a_saved_config_makes_the_same_model(name: str, tmp_path: Path) -> None:
    node = getattr(lazy_models, name)()
    LazyConfig.save({"model": node}, tmp_path / "config.yaml")
    with torch.device("meta"):
        model, again = instantiate(node), instantiate(LazyConfig.load(tmp_path / "config.yaml").model)
    assert numbers(again) == numbers(model) and list(again.state_dict()) == list(model.state_dict())
