"""The keys of a training's config, with their types, defaults, meanings and limits.

Keys that detectron2 has too mean the same here. ``drivetrain.engine.defaults.config.get_cfg()`` makes the config.
"""

from __future__ import annotations

from .root import Root

__all__ = ["Root"]
