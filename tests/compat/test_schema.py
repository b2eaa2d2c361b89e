"""The config of detectron2."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.compat.schema import CompatRoot
from drivetrain.config import CfgNode
from drivetrain.errors import ConfigError

# Written down a second time, by hand, so that no default changes unnoticed.
DEFAULTS = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": True,
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.SMOOTH_L1_BETA": 0.0,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 0,
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 17,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (512,) * 8,
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.1,
    "MODEL.RETINANET.SCORE_THRESH_TEST": 0.05,
    "MODEL.FCOS.NORM": "GN",
    "MODEL.FCOS.CENTER_SAMPLING_RADIUS": 1.5,
    "MODEL.FCOS.SCORE_THRESH_TEST": 0.2,
    "MODEL.FCOS.NMS_THRESH_TEST": 0.6,
    "INPUT.FORMAT": "BGR",
    "TEST.AUG.ENABLED": False,
}


@pytest.mark.parametrize("key", DEFAULTS)
def test_defaults_are_those_that_code_counts_on(key: str) -> None:
    value: Any = CfgNode.from_schema(CompatRoot)
    for part in key.split("."):
        value = value[part]
    assert value == DEFAULTS[key] and type(value) is type(DEFAULTS[key])


def test_the_defaults_are_valid_and_wrong_keys_are_refused() -> None:
    cfg = CfgNode.from_schema(CompatRoot)
    cfg.validate()
    cfg.merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", "3", "SOLVER.BASE_LR", "0.1"])
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    with pytest.raises(ConfigError, match=r"did you mean 'MODEL\.ROI_HEADS\.NUM_CLASSES'"):
        cfg.merge_from_list(["MODEL.ROI_HEADS.NUM_CLASES", "3"])
