"""torchvision's models and backbones, brought to the model contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .faster_rcnn import FasterRCNNDetector as FasterRCNNDetector
    from .fcos import FCOSDetector as FCOSDetector
    from .keypoint_rcnn import KeypointRCNNDetector as KeypointRCNNDetector
    from .mask_rcnn import MaskRCNNDetector as MaskRCNNDetector
    from .retinanet import RetinaNetDetector as RetinaNetDetector
    from .segmentation import DeepLabV3Segmenter as DeepLabV3Segmenter
    from .segmentation import FCNSegmenter as FCNSegmenter
    from .segmentation import LRASPPSegmenter as LRASPPSegmenter
    from .ssd import SSDDetector as SSDDetector
    from .ssdlite import SSDLiteDetector as SSDLiteDetector

__all__ = [
    "DeepLabV3Segmenter",
    "FCNSegmenter",
    "FCOSDetector",
    "FasterRCNNDetector",
    "KeypointRCNNDetector",
    "LRASPPSegmenter",
    "MaskRCNNDetector",
    "RetinaNetDetector",
    "SSDDetector",
    "SSDLiteDetector",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "DeepLabV3Segmenter": "segmentation",
        "FCNSegmenter": "segmentation",
        "FCOSDetector": "fcos",
        "FasterRCNNDetector": "faster_rcnn",
        "KeypointRCNNDetector": "keypoint_rcnn",
        "LRASPPSegmenter": "segmentation",
        "MaskRCNNDetector": "mask_rcnn",
        "RetinaNetDetector": "retinanet",
        "SSDDetector": "ssd",
        "SSDLiteDetector": "ssdlite",
    },
)
