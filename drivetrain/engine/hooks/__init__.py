"""Hooks: what happens around the steps of a training. One file each; :class:`HookBase` is their base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach
from drivetrain.engine.hook_base import HookBase as HookBase

if TYPE_CHECKING:
    from .best_checkpointer import BestCheckpointer as BestCheckpointer
    from .callback import CallbackHook as CallbackHook
    from .early_stopping import EarlyStopping as EarlyStopping
    from .ema import EMA as EMA
    from .evaluation import EvalHook as EvalHook
    from .iteration_timer import IterationTimer as IterationTimer
    from .lr_scheduler import LRScheduler as LRScheduler
    from .memory_stats import TorchMemoryStats as TorchMemoryStats
    from .periodic_checkpointer import PeriodicCheckpointer as PeriodicCheckpointer
    from .periodic_writer import PeriodicWriter as PeriodicWriter
    from .precise_bn import PreciseBN as PreciseBN
    from .preemption import PreemptionCheckpointer as PreemptionCheckpointer
    from .profiler import AutogradProfiler as AutogradProfiler
    from .profiler import TorchProfiler as TorchProfiler
    from .sample_predictions import SamplePredictions as SamplePredictions
    from .validation_loss import ValidationLoss as ValidationLoss
    from .watchdog import Watchdog as Watchdog

__all__ = [
    "EMA",
    "AutogradProfiler",
    "BestCheckpointer",
    "CallbackHook",
    "EarlyStopping",
    "EvalHook",
    "HookBase",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "PreemptionCheckpointer",
    "SamplePredictions",
    "TorchMemoryStats",
    "TorchProfiler",
    "ValidationLoss",
    "Watchdog",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "AutogradProfiler": "profiler",
        "BestCheckpointer": "best_checkpointer",
        "CallbackHook": "callback",
        "EMA": "ema",
        "EarlyStopping": "early_stopping",
        "EvalHook": "evaluation",
        "IterationTimer": "iteration_timer",
        "LRScheduler": "lr_scheduler",
        "PeriodicCheckpointer": "periodic_checkpointer",
        "PeriodicWriter": "periodic_writer",
        "PreciseBN": "precise_bn",
        "PreemptionCheckpointer": "preemption",
        "SamplePredictions": "sample_predictions",
        "TorchMemoryStats": "memory_stats",
        "TorchProfiler": "profiler",
        "ValidationLoss": "validation_loss",
        "Watchdog": "watchdog",
    },
)
