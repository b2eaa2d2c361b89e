"""The models that detectron2's configs describe, equal to them number for number and in the names of their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .build import build_detectron2_model as build_detectron2_model
    from .fcos import FCOS as FCOS
    from .rcnn import GeneralizedRCNN as GeneralizedRCNN
    from .retinanet import RetinaNet as RetinaNet

__all__ = ["FCOS", "GeneralizedRCNN", "RetinaNet", "build_detectron2_model"]

__getattr__, __dir__ = attach(
    __name__, {"FCOS": "fcos", "GeneralizedRCNN": "rcnn", "RetinaNet": "retinanet", "build_detectron2_model": "build"}
)
