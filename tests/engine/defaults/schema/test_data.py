"""The keys under INPUT, DATASETS and DATALOADER."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("INPUT.MIN_SIZE_TRAIN", (640, 0), "must be at least 1, received (640, 0)"),
        ("DATALOADER.NUM_WORKERS", -1, "must be at least 0, received -1"),
        ("INPUT.FORMAT", "L", "must be one of 'RGB', 'BGR', received 'L'"),
        ("INPUT.SIZE", (0, 64), "must be at least 1, received (0, 64)"),
        ("INPUT.SCALE_RANGE", (0, 2), "must be above 0, received (0.0, 2.0)"),
        ("INPUT.MOSAIC", 1.5, "must be between 0 and 1, received 1.5"),
        ("INPUT.RESIZE", "crop", "must be one of 'shortest_edge', 'fixed', 'letterbox', 'scale_jitter', received"),
    ],
)
def test_values_that_cannot_be_are_refused(key: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        get_cfg().merge_from_list([key, value])
    assert str(error.value).startswith(f"override {key} ")
    assert text in str(error.value)
