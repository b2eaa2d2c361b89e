"""From a config to the model that it describes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2 import build_detectron2_model

from .conftest import batch_of, config

ENTRY = {
    "image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    "height": 64,
    "width": 96,
    "gt_boxes": torch.tensor([[10.0, 10.0, 50.0, 50.0]]),
    "gt_classes": torch.tensor([1]),
    "gt_polygons": [torch.tensor([10.0, 10, 50, 10, 50, 50], dtype=torch.float64)],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"MODEL__RESNETS__DEPTH": 101, "INPUT__FORMAT": "RGB"},
        {"MODEL__RESNETS__STRIDE_IN_1X1": False, "MODEL__RESNETS__NORM": "BN", "MODEL__BACKBONE__FREEZE_AT": 0},
        {"MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True, "MODEL__ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": True},
        {"MODEL__ROI_BOX_HEAD__POOLER_TYPE": "ROIAlign", "MODEL__ROI_BOX_HEAD__POOLER_SAMPLING_RATIO": 2},
        {"MODEL__ROI_BOX_HEAD__NUM_CONV": 2, "MODEL__ROI_BOX_HEAD__CONV_DIM": 32, "MODEL__FPN__NORM": "GN"},
        {"MODEL__RPN__CONV_DIMS": [16, 16], "MODEL__RPN__BBOX_REG_LOSS_TYPE": "giou"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_numbers_build_and_learn(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = build_detectron2_model(config("mask", **changes))
    losses = model(batch_of([ENTRY]))
    sum(losses.values()).backward()
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"}
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())
    assert isinstance(model.eval()(batch_of([ENTRY]))[0]["instances"].pred_masks, torch.Tensor)


def single_level(**changes: Any) -> Any:
    """The config without a pyramid: C4, or with dilation DC5."""
    cfg = config("mask", **changes)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64]]
    return cfg


def test_c4_shares_the_last_stage_between_boxes_and_masks() -> None:
    cfg = single_level(MODEL__ROI_HEADS__NAME="Res5ROIHeads", MODEL__ROI_MASK_HEAD__NUM_CONV=0)
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 14
    model = build_detectron2_model(cfg)
    names = list(model.state_dict())
    assert "roi_heads.res5.0.shortcut.weight" in names and not any("box_head" in n or "bottom_up" in n for n in names)
    losses = model(batch_of([ENTRY]))
    assert losses["loss_mask"] > 0
    assert model.eval()(batch_of([ENTRY]))[0]["instances"].image_size == (64, 96)


def test_dc5_has_one_dilated_level() -> None:
    cfg = single_level(MODEL__RESNETS__RES5_DILATION=2)
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res5"]
    model = build_detectron2_model(cfg)
    assert model.proposal_generator.anchor_generator.strides == (16,)
    assert model(batch_of([ENTRY]))["loss_cls"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL__META_ARCHITECTURE": "RetinaNett"}, r"META_ARCHITECTURE 'RetinaNett' has no counterpart here"),
        ({"MODEL__META_ARCHITECTURE": "PanopticFPN"}, "there are GeneralizedRCNN, RetinaNet"),
        ({"MODEL__ROI_HEADS__NAME": "CascadeROIHeads"}, r"ROI_HEADS.NAME 'CascadeROIHeads' has no counterpart"),
        ({"MODEL__RPN__IN_FEATURES": ["p2", "p9"]}, r"RPN.IN_FEATURES \['p2', 'p9'\] must be of .* p2, p3, p4, p5, p6"),
        ({"MODEL__RESNETS__DEFORM_ON_PER_STAGE": [False, True, True, True]}, "deformable convolutions"),
        ({"MODEL__ROI_BOX_HEAD__TRAIN_ON_PRED_BOXES": True}, "TRAIN_ON_PRED_BOXES"),
        ({"MODEL__RPN__IOU_LABELS": [0, 1, 1]}, r"MODEL.RPN.IOU_LABELS must be \[0, -1, 1\]"),
    ],
)
def test_what_has_no_counterpart(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_detectron2_model(config("faster", **changes))
