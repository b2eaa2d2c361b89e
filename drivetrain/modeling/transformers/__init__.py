"""The transformers library's models, brought to the model contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .build import build_transformers as build_transformers
    from .classifier import TransformersClassifier as TransformersClassifier
    from .detector import TransformersDetector as TransformersDetector
    from .segmenter import TransformersSegmenter as TransformersSegmenter
    from .semantic import TransformersSemanticSegmenter as TransformersSemanticSegmenter

__all__ = [
    "TransformersClassifier",
    "TransformersDetector",
    "TransformersSegmenter",
    "TransformersSemanticSegmenter",
    "build_transformers",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "TransformersClassifier": "classifier",
        "TransformersDetector": "detector",
        "TransformersSegmenter": "segmenter",
        "TransformersSemanticSegmenter": "semantic",
        "build_transformers": "build",
    },
)
