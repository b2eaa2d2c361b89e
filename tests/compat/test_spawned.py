"""What new processes import as their main script; tests/compat/test_runner.py starts some."""

from __future__ import annotations

import importlib


def test_importing_it_otherwise_does_nothing() -> None:
    assert importlib.import_module("drivetrain.compat.spawned").__all__ == ()
