"""Configs and models of the zoo."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection import fcos_resnet50_fpn

from drivetrain.compat import model_zoo
from drivetrain.compat.config import get_cfg
from drivetrain.compat.zoo_names import CHECKPOINTS
from drivetrain.errors import CheckpointError, ConfigError
from drivetrain.modeling.detectron2 import build_detectron2_model

KINDS = (Path(__file__).parents[1] / "modeling" / "detectron2" / "conftest.py").resolve()


def at(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


@pytest.fixture(scope="module")
def verified() -> Any:
    """The numbers with which the models were compared with detectron2 itself."""
    spec = importlib.util.spec_from_file_location("verified_configs", KINDS)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["verified_configs"] = module
    spec.loader.exec_module(module)
    return module.KINDS


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("faster", "COCO-Detection/faster_rcnn_R_50_FPN_3x"),
        ("mask", "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"),
        ("keypoint", "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x"),
        ("retinanet", "COCO-Detection/retinanet_R_50_FPN_1x"),
    ],
)
def test_the_numbers_are_those_that_were_compared_with_detectron2(verified: Any, kind: str, name: str) -> None:
    cfg = model_zoo.get_config(f"{name}.yaml")
    for key, value in verified[kind].items():
        assert at(cfg, key) == value, key


# Key by key what detectron2's baselines have beside those.
BASELINES = {
    "COCO-Detection/faster_rcnn_R_50_FPN_1x": {
        "SOLVER.STEPS": (60000, 80000),
        "SOLVER.MAX_ITER": 90000,
        "SOLVER.BASE_LR": 0.02,
        "SOLVER.IMS_PER_BATCH": 16,
        "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
        "MODEL.RESNETS.DEPTH": 50,
        "DATASETS.TRAIN": ("coco_2017_train",),
        "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
    },
    "COCO-Detection/faster_rcnn_R_101_C4_3x": {
        "SOLVER.STEPS": (210000, 250000),
        "SOLVER.MAX_ITER": 270000,
        "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
        "MODEL.RPN.IN_FEATURES": ["res4"],
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
        "MODEL.MASK_ON": False,
    },
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x": {
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        "MODEL.RPN.IN_FEATURES": ["res5"],
        "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
        "MODEL.MASK_ON": True,
    },
    "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x": {
        "MODEL.PIXEL_STD": [57.375, 57.12, 58.395],
        "MODEL.RESNETS.NUM_GROUPS": 32,
        "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.MASK_ON": True,
    },
    "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x": {
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1500,
        "MODEL.ROI_HEADS.NUM_CLASSES": 1,
        "DATASETS.TEST": ("keypoints_coco_2017_val",),
        "MODEL.RESNETS.DEPTH": 101,
    },
    "COCO-Detection/fcos_R_50_FPN_1x": {
        "SOLVER.BASE_LR": 0.01,
        "SOLVER.MAX_ITER": 90000,
        "MODEL.META_ARCHITECTURE": "FCOS",
        "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
        "MODEL.FCOS.IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
        "MODEL.WEIGHTS": "detectron2://ImageNetPretrained/MSRA/R-50.pkl",
    },
    "COCO-Detection/retinanet_R_101_FPN_3x": {
        "SOLVER.BASE_LR": 0.01,
        "SOLVER.MAX_ITER": 270000,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[s * 2 ** (k / 3) for k in range(3)] for s in (32, 64, 128, 256, 512)],
    },
}


@pytest.mark.parametrize("name", BASELINES)
def test_baselines(name: str) -> None:
    cfg = model_zoo.get_config(f"{name}.yaml")
    assert {key: at(cfg, key) for key in BASELINES[name]} == BASELINES[name]


@pytest.mark.parametrize(
    ("name", "parameters"),  # in millions, as counted for models of this kind
    [
        ("COCO-Detection/faster_rcnn_R_50_FPN_3x", 41.69),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x", 35.90),
        ("COCO-Detection/retinanet_R_50_FPN_3x", 37.91),
    ],
)
def test_a_config_builds_its_model(name: str, parameters: float) -> None:
    with torch.device("meta"):
        model = build_detectron2_model(model_zoo.get_config(f"{name}.yaml"))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, abs=0.01)


def test_fcos_has_as_many_weights_as_torchvisions() -> None:
    """Of the same architecture, whose levels p6 and p7 come from p5 too; batch norms are counted by none."""
    with torch.device("meta"):
        model = build_detectron2_model(model_zoo.get_config("COCO-Detection/fcos_R_50_FPN_1x.yaml"))
        other = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=80)
    norms = {id(p) for m in other.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    expected = sum(p.numel() for p in other.parameters() if id(p) not in norms)
    assert sum(p.numel() for p in model.parameters()) == expected > 30e6


def test_lazy_configs_are_models_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DRIVETRAIN_WEIGHTS", raising=False)
    model = model_zoo.get("COCO-Detection/retinanet_R_50_FPN_1x.py", device="cpu")
    assert model.training and model.num_classes == 80
    with pytest.raises(CheckpointError, match=r"download model_final_bfca0b\.pkl"):
        model_zoo.get("COCO-Detection/retinanet_R_50_FPN_1x.py", trained=True, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_config_builds_its_model(name: str) -> None:
    cfg = model_zoo.get_config(f"{name}.yaml")
    with torch.device("meta"):
        model = build_detectron2_model(cfg)
    head = cfg.MODEL.RETINANET if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" else cfg.MODEL.ROI_HEADS
    assert model.num_classes == head.NUM_CLASSES and model.preprocess.mean.shape == (3, 1, 1)


def test_the_file_is_for_merging() -> None:
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"))
    assert cfg.MODEL.BACKBONE.NAME == "build_resnet_fpn_backbone" and cfg.SOLVER.MAX_ITER == 270000


def test_addresses() -> None:
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
    url = f"https://dl.fbaipublicfiles.com/detectron2/{name}/137849600/model_final_f10217.pkl"
    assert model_zoo.get_checkpoint_url(f"{name}.yaml") == url
    weights = model_zoo.get_config(f"{name}.yaml", trained=True).MODEL.WEIGHTS
    assert weights == url
    with pytest.raises(ConfigError, match="no published weights"):
        model_zoo.get_checkpoint_url("Base-RCNN-FPN.yaml")


def test_a_trained_model_without_its_file_says_what_to_do_and_an_untrained_one_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DRIVETRAIN_WEIGHTS", raising=False)
    name = "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml"
    with pytest.raises(CheckpointError, match=r"download model_final_721ade\.pkl from https://.* yourself"):
        model_zoo.get(name, trained=True, device="cpu")
    with caplog.at_level(logging.WARNING):
        model = model_zoo.get(name, device="cpu")
    assert "random weights" in caplog.text and model.training
    assert next(model.parameters()).device.type == "cpu"
