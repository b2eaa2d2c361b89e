"""Weights of other origin: detectron2's files and addresses, Caffe2's and torchvision's backbones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .checkpointer import DetectionCheckpointer as DetectionCheckpointer
    from .checkpointer import load_foreign as load_foreign
    from .matching import match_weights as match_weights
    from .matching import read_weights as read_weights
    from .published import find_weights as find_weights

__all__ = ["DetectionCheckpointer", "find_weights", "load_foreign", "match_weights", "read_weights"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DetectionCheckpointer": "checkpointer",
        "find_weights": "published",
        "load_foreign": "checkpointer",
        "match_weights": "matching",
        "read_weights": "matching",
    },
)
