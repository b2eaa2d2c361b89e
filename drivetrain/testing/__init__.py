"""Toys for tests of hooks, trainers and the like: a tiny model, a tiny loader, and a comparison of trainings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .toys import TinyLoader as TinyLoader
    from .toys import TinyModel as TinyModel
    from .toys import assert_same_training as assert_same_training
    from .toys import tiny_loader as tiny_loader
    from .toys import tiny_trainer as tiny_trainer

__all__ = ["TinyLoader", "TinyModel", "assert_same_training", "tiny_loader", "tiny_trainer"]

__getattr__, __dir__ = attach(
    __name__,
    {
        "TinyLoader": "toys",
        "TinyModel": "toys",
        "assert_same_training": "toys",
        "tiny_loader": "toys",
        "tiny_trainer": "toys",
    },
)
