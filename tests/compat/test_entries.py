"""How the table is written."""

from __future__ import annotations

from drivetrain.compat.entries import same


def test_names_of_a_module() -> None:
    assert same("a.b", "x  Y") == {"x": "a.b:x", "Y": "a.b:Y"}
