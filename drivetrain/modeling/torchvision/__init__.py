"""torchvision's detectors and backbones, brought to the model contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .faster_rcnn import FasterRCNNDetector as FasterRCNNDetector
    from .fcos import FCOSDetector as FCOSDetector
    from .retinanet import RetinaNetDetector as RetinaNetDetector
    from .ssdlite import SSDLiteDetector as SSDLiteDetector

__all__ = ["FCOSDetector", "FasterRCNNDetector", "RetinaNetDetector", "SSDLiteDetector"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "FCOSDetector": "fcos",
        "FasterRCNNDetector": "faster_rcnn",
        "RetinaNetDetector": "retinanet",
        "SSDLiteDetector": "ssdlite",
    },
)
