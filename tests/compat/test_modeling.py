"""Architectures that take a config."""

from __future__ import annotations

from typing import Any

import torch

from drivetrain.compat.config import configurable, get_cfg
from drivetrain.compat.modeling import FCOS, GeneralizedRCNN, RetinaNet
from drivetrain.config import CfgNode
from drivetrain.modeling import build_model

STAGES = ["res2", "res3", "res4", "res5"]
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.OUT_FEATURES", STAGES, "MODEL.FPN.IN_FEATURES", STAGES),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
    *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"], "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [128]], "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7, "MODEL.ROI_BOX_HEAD.FC_DIM", 16),
]


def small(*overrides: object) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, *overrides])
    return cfg


def same_predictions(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    other.load_state_dict(one.state_dict())
    batch = [{"image": torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8), "height": 64, "width": 80}]
    with torch.no_grad():
        a, b = (model.eval()(batch)[0]["instances"] for model in (one, other))
    return torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor) and torch.equal(a.scores, b.scores)


def test_rcnn_from_a_config_or_from_parts() -> None:
    cfg = small("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    model = GeneralizedRCNN(cfg)
    built = build_model(cfg)
    assert same_predictions(built, model)
    parts = {name: getattr(built, name) for name in ("backbone", "proposal_generator", "roi_heads")}
    again = GeneralizedRCNN(**parts, pixel_mean=cfg.MODEL.PIXEL_MEAN, pixel_std=cfg.MODEL.PIXEL_STD, vis_period=5)
    assert again.backbone is built.backbone and same_predictions(built, again)


def test_a_class_of_ones_own_with_further_arguments() -> None:
    class Scaled(GeneralizedRCNN):
        @configurable
        def __init__(self, *, scale: float, **parts: Any) -> None:
            super().__init__(**parts)
            self.scale = scale

        @classmethod
        def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
            return {**super().from_config(cfg), "scale": 0.5}

    model = Scaled(small())
    assert model.scale == 0.5 and model.preprocess.size_divisibility == 32


ONE_STAGE = ("MODEL.RESNETS.OUT_FEATURES", STAGES[1:], "MODEL.FPN.IN_FEATURES", STAGES[1:])


def test_retinanet_from_a_config() -> None:
    cfg = small(
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
        *("MODEL.RETINANET.NUM_CONVS", 1, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, *ONE_STAGE),
    )
    model = RetinaNet(cfg)
    assert same_predictions(build_model(cfg), model) and same_options(build_model(cfg), model)


def test_fcos_from_a_config() -> None:
    cfg = small(
        *("MODEL.META_ARCHITECTURE", "FCOS", "MODEL.BACKBONE.NAME", "build_fcos_resnet_fpn_backbone", *ONE_STAGE),
        *("MODEL.FCOS.NUM_CONVS", 1, "MODEL.FCOS.NORM", "", "MODEL.FCOS.SCORE_THRESH_TEST", 0.05),
    )
    model = FCOS(cfg)
    assert same_predictions(build_model(cfg), model) and same_options(build_model(cfg), model)


def same_options(one: Any, other: Any) -> bool:
    mine, theirs = (dict(vars(model._options)) for model in (one, other))
    losses = [vars(options.pop("loss")) for options in (mine, theirs) if "loss" in options]
    for loss in losses:
        loss["coder"] = vars(loss["coder"])
    return mine == theirs and losses[:1] == losses[1:]
