"""What projects written for detectron2 need beside the engine: its config, its names, its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain import attach

if TYPE_CHECKING:
    from .schema import CompatRoot as CompatRoot

__all__ = ["CompatRoot"]

__getattr__, __dir__ = attach(__name__, {"CompatRoot": "schema"})
