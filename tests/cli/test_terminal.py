"""Escaping for the terminal."""

from __future__ import annotations

import pytest

from drivetrain.cli.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ÄÖ 猫 'quoted' \\", "plain, ÄÖ 猫 'quoted' \\"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb\nc\x00", "a\\rb\\nc\\x00"),
        ("\x9b31m \u202egnp.exe \ud800", "\\x9b31m \\u202egnp.exe \\ud800"),
    ],
)
def test_only_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()  # a terminal takes it


def test_what_is_kept() -> None:
    assert printable("a\n  b\x1b", keep="\n") == "a\n  b\\x1b"
