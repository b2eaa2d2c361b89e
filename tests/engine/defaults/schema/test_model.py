"""The keys under MODEL."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("MODEL.PIXEL_STD", [1, 0, 1], "must be above 0, received [1.0, 0.0, 1.0]"),
        ("MODEL.SCORE_THRESH_TEST", 1.5, "must be between 0 and 1, received 1.5"),
        ("MODEL.BACKBONE.NORM", "SyncBN", "must be one of"),
        ("MODEL.NUM_CLASSES", -1, "must be at least 0, received -1"),
    ],
)
def test_values_that_cannot_be_are_refused(key: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        get_cfg().merge_from_list([key, value])
    assert str(error.value).startswith(f"override {key} ")
    assert text in str(error.value)
