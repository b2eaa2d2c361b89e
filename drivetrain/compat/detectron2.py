"""``import drivetrain.compat.detectron2`` makes ``import detectron2`` mean this package; for notebooks.

A script needs no change: ``python -m drivetrain.compat script.py`` does the same before it runs it.
"""

from __future__ import annotations

from .importer import install, uninstall

__all__ = ["install", "uninstall"]

install()
