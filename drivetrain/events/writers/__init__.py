"""Writers: each shows what an :class:`~drivetrain.events.EventStorage` holds in one place.

::

    with EventStorage(start_iter=0) as storage:
        writers = [CommonMetricPrinter(max_iter), JSONWriter("output/metrics.json")]
        ...                                    # storage.put_scalar(...), every iteration
        for writer in writers:
            writer.write()                     # every 20 iterations or so
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .background import BackgroundWriter as BackgroundWriter
    from .base import EventWriter as EventWriter
    from .base import FailSafeWriter as FailSafeWriter
    from .console import CommonMetricPrinter as CommonMetricPrinter
    from .fresh import FreshScalars as FreshScalars
    from .json_lines import JSONWriter as JSONWriter
    from .progress import ProgressBar as ProgressBar
    from .tensorboard import TensorboardXWriter as TensorboardXWriter

__all__ = [
    "BackgroundWriter",
    "CommonMetricPrinter",
    "EventWriter",
    "FailSafeWriter",
    "FreshScalars",
    "JSONWriter",
    "ProgressBar",
    "TensorboardXWriter",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "BackgroundWriter": "background",
        "CommonMetricPrinter": "console",
        "EventWriter": "base",
        "FailSafeWriter": "base",
        "FreshScalars": "fresh",
        "JSONWriter": "json_lines",
        "ProgressBar": "progress",
        "TensorboardXWriter": "tensorboard",
    },
)
