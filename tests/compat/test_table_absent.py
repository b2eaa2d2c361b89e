"""What is not there."""

from __future__ import annotations

import re

from drivetrain.compat.importer import resolve
from drivetrain.compat.table_absent import ABSENT


def test_what_is_recommended_exists() -> None:
    """Dotted names of this package and of libraries in the reasons can be imported."""
    for path, reason in ABSENT.items():
        for name in re.findall(r"\b(?:drivetrain|torch|torchvision)(?:\.\w+)+", reason):
            module, _, last = name.rpartition(".")
            try:
                resolve(name)
            except ImportError:
                assert hasattr(resolve(module), last), f"{path}: {name} does not exist"
