"""Configs, models and the recorded results of detectron2 itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.compat.schema import CompatRoot
from drivetrain.config import CfgNode
from drivetrain.structures import Boxes, Instances, Keypoints, PolygonMasks

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference" / "detectron2"

PYRAMID = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "faster": PYRAMID,
    "mask": {**PYRAMID, "MODEL.MASK_ON": True},
    "keypoint": {
        **PYRAMID,
        "MODEL.KEYPOINT_ON": True,
        "MODEL.ROI_HEADS.NUM_CLASSES": 1,
        "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
    },
    "retinanet": {
        "MODEL.META_ARCHITECTURE": "RetinaNet",
        "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
        "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
    },
    "fcos": {
        "MODEL.META_ARCHITECTURE": "FCOS",
        "MODEL.BACKBONE.NAME": "build_fcos_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
        "MODEL.FPN.OUT_CHANNELS": 64,
    },
}
SMALL = {
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 32,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (32, 32),
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.RETINANET.NUM_CLASSES": 3,
    "MODEL.FCOS.NUM_CLASSES": 3,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 60,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 40,
}


def config(kind: str, **changes: Any) -> CfgNode:
    """A small model's config; names of changes have two underscores for each dot."""
    values = {**SMALL, **KINDS[kind], **{key.replace("__", "."): value for key, value in changes.items()}}
    cfg = CfgNode.from_schema(CompatRoot)
    cfg.merge_from_list([part for item in values.items() for part in item])
    return cfg


def recorded(kind: str) -> dict[str, Any]:
    """What detectron2 gave for a model; the test is skipped where the recording is not at hand."""
    path = REFERENCE / f"{kind}.pt"
    if not path.is_file():
        pytest.skip("the recorded results of detectron2 are not at hand")
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


def batch_of(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Recorded inputs as a batch."""
    batch = []
    for entry in inputs:
        instances = Instances(tuple(entry["image"].shape[-2:]))
        instances.gt_boxes, instances.gt_classes = Boxes(entry["gt_boxes"]), entry["gt_classes"]
        if "gt_polygons" in entry:
            instances.gt_masks = PolygonMasks([[polygon] for polygon in entry["gt_polygons"]])
        if "gt_keypoints" in entry:
            instances.gt_keypoints = Keypoints(entry["gt_keypoints"])
        batch.append({**{key: entry[key] for key in ("image", "height", "width")}, "instances": instances})
    return batch


@pytest.fixture
def made() -> Callable[..., CfgNode]:
    return config
