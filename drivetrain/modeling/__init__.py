"""Models: the contract they keep, their names, and the adapters that bring existing libraries' models to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .build import build_model as build_model
    from .contract import Batch as Batch
    from .contract import Losses as Losses
    from .contract import Outputs as Outputs
    from .contract import check_losses as check_losses
    from .contract import check_outputs as check_outputs
    from .preprocess import Preprocess as Preprocess
    from .registry import MODELS as MODELS
    from .registry import ModelRegistry as ModelRegistry
    from .weights import WeightsReport as WeightsReport
    from .weights import load_weights as load_weights

__all__ = [
    "MODELS",
    "Batch",
    "Losses",
    "ModelRegistry",
    "Outputs",
    "Preprocess",
    "WeightsReport",
    "build_model",
    "check_losses",
    "check_outputs",
    "load_weights",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "MODELS": "registry",
        "Batch": "contract",
        "Losses": "contract",
        "ModelRegistry": "registry",
        "Outputs": "contract",
        "Preprocess": "preprocess",
        "WeightsReport": "weights",
        "build_model": "build",
        "check_losses": "contract",
        "check_outputs": "contract",
        "load_weights": "weights",
    },
)
