"""Optimizers, parameter groups, gradient clipping, and learning-rate schedules as functions of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .build import build_optimizer as build_optimizer
    from .clipping import GradientClipper as GradientClipper
    from .clipping import maybe_add_gradient_clipping as maybe_add_gradient_clipping
    from .layer_decay import layerwise_lr_decay as layerwise_lr_decay
    from .length import check_length as check_length
    from .length import parse_length as parse_length
    from .lr_scheduler import LRMultiplier as LRMultiplier
    from .lr_scheduler import WarmupReduceLROnPlateau as WarmupReduceLROnPlateau
    from .lr_scheduler import build_lr_scheduler as build_lr_scheduler
    from .lr_scheduler import build_schedule as build_schedule
    from .parameter_groups import get_default_optimizer_params as get_default_optimizer_params

__all__ = [
    "GradientClipper",
    "LRMultiplier",
    "WarmupReduceLROnPlateau",
    "build_lr_scheduler",
    "build_optimizer",
    "build_schedule",
    "check_length",
    "get_default_optimizer_params",
    "layerwise_lr_decay",
    "maybe_add_gradient_clipping",
    "parse_length",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "GradientClipper": "clipping",
        "LRMultiplier": "lr_scheduler",
        "WarmupReduceLROnPlateau": "lr_scheduler",
        "build_lr_scheduler": "lr_scheduler",
        "build_optimizer": "build",
        "build_schedule": "lr_scheduler",
        "check_length": "length",
        "get_default_optimizer_params": "parameter_groups",
        "layerwise_lr_decay": "layer_decay",
        "maybe_add_gradient_clipping": "clipping",
        "parse_length": "length",
    },
)
