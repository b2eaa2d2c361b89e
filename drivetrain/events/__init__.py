"""What happens during training: scalars, images and histograms, and the writers that show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .history import ScalarHistory as ScalarHistory
    from .storage import EventStorage as EventStorage
    from .storage import get_event_storage as get_event_storage
    from .storage import has_event_storage as has_event_storage
    from .writers import CommonMetricPrinter as CommonMetricPrinter
    from .writers import EventWriter as EventWriter
    from .writers import JSONWriter as JSONWriter
    from .writers import ProgressBar as ProgressBar
    from .writers import TensorboardXWriter as TensorboardXWriter

__all__ = [
    "CommonMetricPrinter",
    "EventStorage",
    "EventWriter",
    "JSONWriter",
    "ProgressBar",
    "ScalarHistory",
    "TensorboardXWriter",
    "get_event_storage",
    "has_event_storage",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "CommonMetricPrinter": "writers",
        "EventStorage": "storage",
        "EventWriter": "writers",
        "JSONWriter": "writers",
        "ProgressBar": "writers",
        "ScalarHistory": "history",
        "TensorboardXWriter": "writers",
        "get_event_storage": "storage",
        "has_event_storage": "storage",
    },
)
