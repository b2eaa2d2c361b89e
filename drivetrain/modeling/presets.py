"""The models that have a name from the start, each a builder and the MODEL.* values that make it what it is.

The ``*_resnet50_fpn`` and ``ssdlite320_mobilenet_v3_large`` models are torchvision's models of these names, weight for
weight. The ``*_tiny`` ones have fewer than a million parameters and learn from scratch within minutes on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["PRESETS"]


def _preset(family: str, **values: Any) -> tuple[str, Mapping[str, Any]]:
    """A builder of ``drivetrain.modeling.torchvision`` and values, their keys written with ``__`` for the dot."""
    where = f"drivetrain.modeling.torchvision.{family}:build_{family}"
    return where, MappingProxyType({key.replace("__", "."): value for key, value in values.items()})


def _octaves(*sizes: float) -> list[list[float]]:
    """Three anchor sizes per level, a third of an octave apart (RetinaNet, section 4)."""
    return [[size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))] for size in sizes]


_FCOS = _preset(
    "fcos",
    BACKBONE__NAME="resnet50",
    FPN__OUT_CHANNELS=256,
    HEAD__NUM_CONVS=4,
    ANCHOR_GENERATOR__SIZES=[[8], [16], [32], [64], [128]],
)
_RETINANET = _preset(
    "retinanet",
    BACKBONE__NAME="resnet50",
    FPN__OUT_CHANNELS=256,
    HEAD__NUM_CONVS=4,
    ANCHOR_GENERATOR__SIZES=_octaves(32, 64, 128, 256, 512),
    ANCHOR_GENERATOR__ASPECT_RATIOS=[[0.5, 1.0, 2.0]],
)
_FASTER_RCNN = _preset(
    "faster_rcnn",
    BACKBONE__NAME="resnet50",
    FPN__OUT_CHANNELS=256,
    HEAD__NUM_CONVS=1,
    ANCHOR_GENERATOR__SIZES=[[32], [64], [128], [256], [512]],
    ANCHOR_GENERATOR__ASPECT_RATIOS=[[0.5, 1.0, 2.0]],
)
_SSDLITE = _preset("ssdlite")

PRESETS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "fcos": _FCOS,
        "fcos_resnet50_fpn": _FCOS,
        "fcos_tiny": _preset(
            "fcos",
            BACKBONE__NAME="timm/test_resnet",
            FPN__OUT_CHANNELS=64,
            HEAD__NUM_CONVS=1,
            ANCHOR_GENERATOR__SIZES=[[8], [16], [32], [64]],
        ),
        "retinanet": _RETINANET,
        "retinanet_resnet50_fpn": _RETINANET,
        "retinanet_tiny": _preset(
            "retinanet",
            BACKBONE__NAME="timm/test_resnet",
            FPN__OUT_CHANNELS=64,
            HEAD__NUM_CONVS=1,
            HEAD__NORM="GN",
            ANCHOR_GENERATOR__SIZES=_octaves(16, 32, 64, 128),
            ANCHOR_GENERATOR__ASPECT_RATIOS=[[0.5, 1.0, 2.0]],
        ),
        "faster_rcnn": _FASTER_RCNN,
        "faster_rcnn_resnet50_fpn": _FASTER_RCNN,
        "faster_rcnn_tiny": _preset(
            "faster_rcnn",
            BACKBONE__NAME="timm/test_resnet",
            FPN__OUT_CHANNELS=40,
            HEAD__NUM_CONVS=1,
            HEAD__BATCH_SIZE_PER_IMAGE=128,
            HEAD__NUM_PROPOSALS=300,
            ANCHOR_GENERATOR__SIZES=[[16], [32], [64], [128]],
            ANCHOR_GENERATOR__ASPECT_RATIOS=[[0.5, 1.0, 2.0]],
        ),
        "ssdlite": _SSDLITE,
        "ssdlite320_mobilenet_v3_large": _SSDLITE,
    }
)
"""Name -> (where the builder is, its MODEL.* values)."""
