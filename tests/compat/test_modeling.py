"""Architectures that take a config."""

from __future__ import annotations

import torch

from drivetrain.compat.config import get_cfg
from drivetrain.compat.modeling import GeneralizedRCNN, RetinaNet
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
    assert same_predictions(build_model(cfg), model)
    parts = (model.backbone, model.proposal_generator, model.roi_heads, model.preprocess)
    assert GeneralizedRCNN(*parts, ["p2"], ["p2"]).backbone is model.backbone


def test_retinanet_from_a_config() -> None:
    cfg = small(
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone"),
        *("MODEL.RESNETS.OUT_FEATURES", STAGES[1:], "MODEL.FPN.IN_FEATURES", STAGES[1:]),
        *("MODEL.RETINANET.NUM_CONVS", 1, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    )
    assert same_predictions(build_model(cfg), RetinaNet(cfg))
