"""The style sheet stands alone."""

from __future__ import annotations

import re

from drivetrain.visualization.report_style import STYLE


def test_nothing_is_loaded_from_elsewhere() -> None:
    for forbidden in ("url(", "@import", "http", "</style"):
        assert forbidden not in STYLE


def test_every_variable_has_a_light_and_a_dark_value() -> None:
    light, dark = STYLE.split("prefers-color-scheme: dark", 1)
    dark = dark.split("* {", 1)[0]
    used = set(re.findall(r"var\((--[\w-]+)\)", STYLE)) - {"--share"}
    used |= {f"--line-{i}" for i in range(8)}
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark


def test_braces_are_balanced() -> None:
    assert STYLE.count("{") == STYLE.count("}")
