"""How the table of :mod:`drivetrain.compat.table` is written."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Names", "same"]

Names = Mapping[str, str]
"""A name of a module -> what it is here: ``"package.module:name"``, or ``"package.module"`` for a module."""


def same(module: str, names: str) -> dict[str, str]:
    """Names that ``module`` has too, separated by spaces."""
    return {name: f"{module}:{name}" for name in names.split()}
