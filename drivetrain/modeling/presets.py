"""The models of torchvision and timm that have a name from the start, and the MODEL.* values that make them.

Those named as torchvision names its models (``fasterrcnn`` is written ``faster_rcnn`` here) are torchvision's, weight
for weight. The ``*_tiny`` ones have fewer than a million parameters and learn from scratch within minutes on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .entry import ModelEntry, preset

__all__ = ["LIBRARIES", "PRESETS"]

_TINY = "timm/test_resnet"
_RATIOS = [[0.5, 1.0, 2.0]]


def _octaves(*sizes: float) -> list[list[float]]:
    """Three anchor sizes per level, a third of an octave apart (RetinaNet, section 4)."""
    return [[size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))] for size in sizes]


def _detector(family: str, **values: Any) -> ModelEntry:
    return preset(f"torchvision.{family}:build_{family}", **values)


def _rcnn(family: str, *more: str, **values: Any) -> ModelEntry:
    """A two-stage detector on a ResNet-50, that learns what ``more`` names beside boxes."""
    pyramid = {"BACKBONE__NAME": "resnet50", "FPN__OUT_CHANNELS": 256, "HEAD__NUM_CONVS": 1}
    anchors = {
        "ANCHOR_GENERATOR__SIZES": [[32], [64], [128], [256], [512]],
        "ANCHOR_GENERATOR__ASPECT_RATIOS": _RATIOS,
    }
    return preset(f"torchvision.{family}:build_{family}", ("boxes", *more), **{**pyramid, **anchors, **values})


def _tiny_rcnn(family: str, *more: str, channels: int, **values: Any) -> ModelEntry:
    return _rcnn(
        family,
        *more,
        BACKBONE__NAME=_TINY,
        FPN__OUT_CHANNELS=channels,
        HEAD__BATCH_SIZE_PER_IMAGE=128,
        HEAD__NUM_PROPOSALS=300,
        ANCHOR_GENERATOR__SIZES=[[16], [32], [64], [128]],
        **values,
    )


def _segmenter(head: str, backbone: str, **values: Any) -> ModelEntry:
    return preset(
        "torchvision.segmentation:build_segmenter",
        ("sem_seg",),
        SEM_SEG_HEAD__NAME=head,
        BACKBONE__NAME=backbone,
        **values,
    )


def _classifier(**values: Any) -> ModelEntry:
    return preset("classifier:build_classifier", ("classes",), **values)


_FCOS = _detector(
    "fcos",
    BACKBONE__NAME="resnet50",
    FPN__OUT_CHANNELS=256,
    HEAD__NUM_CONVS=4,
    ANCHOR_GENERATOR__SIZES=[[8], [16], [32], [64], [128]],
)
_RETINANET = _detector(
    "retinanet",
    BACKBONE__NAME="resnet50",
    FPN__OUT_CHANNELS=256,
    HEAD__NUM_CONVS=4,
    ANCHOR_GENERATOR__SIZES=_octaves(32, 64, 128, 256, 512),
    ANCHOR_GENERATOR__ASPECT_RATIOS=_RATIOS,
)
_FASTER_RCNN = _rcnn("faster_rcnn")
_MASK_RCNN = _rcnn("mask_rcnn", "masks")
_KEYPOINT_RCNN = _rcnn("keypoint_rcnn", "keypoints")
_SSD = _detector("ssd", BACKBONE__NAME="vgg16")
_SSDLITE = _detector("ssdlite")

PRESETS: Mapping[str, ModelEntry] = MappingProxyType(
    {
        "fcos": _FCOS,
        "fcos_resnet50_fpn": _FCOS,
        "fcos_tiny": _detector(
            "fcos",
            BACKBONE__NAME=_TINY,
            FPN__OUT_CHANNELS=64,
            HEAD__NUM_CONVS=1,
            ANCHOR_GENERATOR__SIZES=[[8], [16], [32], [64]],
        ),
        "retinanet": _RETINANET,
        "retinanet_resnet50_fpn": _RETINANET,
        "retinanet_tiny": _detector(
            "retinanet",
            BACKBONE__NAME=_TINY,
            FPN__OUT_CHANNELS=64,
            HEAD__NUM_CONVS=1,
            HEAD__NORM="GN",
            ANCHOR_GENERATOR__SIZES=_octaves(16, 32, 64, 128),
            ANCHOR_GENERATOR__ASPECT_RATIOS=_RATIOS,
        ),
        "faster_rcnn": _FASTER_RCNN,
        "faster_rcnn_resnet50_fpn": _FASTER_RCNN,
        "faster_rcnn_tiny": _tiny_rcnn("faster_rcnn", channels=40),
        "mask_rcnn": _MASK_RCNN,
        "mask_rcnn_resnet50_fpn": _MASK_RCNN,
        "mask_rcnn_tiny": _tiny_rcnn(
            "mask_rcnn", "masks", channels=32, ROI_MASK_HEAD__NUM_CONV=2, ROI_MASK_HEAD__CONV_DIM=32
        ),
        "keypoint_rcnn": _KEYPOINT_RCNN,
        "keypoint_rcnn_resnet50_fpn": _KEYPOINT_RCNN,
        "keypoint_rcnn_tiny": _tiny_rcnn(
            "keypoint_rcnn", "keypoints", channels=32, ROI_KEYPOINT_HEAD__CONV_DIMS=[64, 64]
        ),
        "ssd": _SSD,
        "ssd300_vgg16": _SSD,
        "ssd_tiny": _detector(
            "ssd",
            BACKBONE__NAME=_TINY,
            FPN__OUT_CHANNELS=64,
            ANCHOR_GENERATOR__SIZES=[[20, 28], [40, 56], [80, 112], [160, 224]],
            ANCHOR_GENERATOR__ASPECT_RATIOS=_RATIOS,
        ),
        "ssdlite": _SSDLITE,
        "ssdlite320_mobilenet_v3_large": _SSDLITE,
        **{f"fcn_{body}": _segmenter("fcn", body) for body in ("resnet50", "resnet101")},
        **{
            f"deeplabv3_{body}": _segmenter("deeplabv3", body)
            for body in ("resnet50", "resnet101", "mobilenet_v3_large")
        },
        "lraspp_mobilenet_v3_large": _segmenter("lraspp", "mobilenet_v3_large"),
        "lraspp_tiny": _segmenter("lraspp", _TINY, SEM_SEG_HEAD__CONVS_DIM=64),
        "classifier": _classifier(BACKBONE__NAME="resnet50"),
        "classifier_tiny": _classifier(BACKBONE__NAME=_TINY),
    }
)
"""Model name -> entry."""

LIBRARIES: Mapping[str, ModelEntry] = MappingProxyType({"timm": _classifier(), "torchvision": _classifier()})
"""The prefix of a model name -> the entry of all models that have it: ``timm/resnet18`` classifies images."""
