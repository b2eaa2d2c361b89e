"""The keys under SOLVER."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("SOLVER.IMS_PER_BATCH", 0, "SOLVER.IMS_PER_BATCH must be at least 1, received 0"),
        ("SOLVER.MAX_ITER", "12 eggs", "must be iterations (40000) or epochs ('12ep'), received '12 eggs'"),
        ("SOLVER.MAX_ITER", 0, "SOLVER.MAX_ITER must be at least 1, received 0"),
        ("SOLVER.CHECKPOINT_PERIOD", 0, "must be at least 1"),
        ("SOLVER.STEPS", (30, 20), "must be increasing iterations, received (30, 20)"),
        ("SOLVER.STEPS", (-1, 20), "must be at least 0, received (-1, 20)"),
        ("SOLVER.BETAS", (0.9, 1.0), "must be at least 0 and below 1, received (0.9, 1.0)"),
        ("SOLVER.BETAS", (0.9,), "must be tuple of (float, float), received (0.9,)"),
        ("SOLVER.OPTIMIZER", "Adam", "must be one of 'SGD', 'AdamW', received 'Adam'"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0, "must be above 0, received 0.0"),
        ("SOLVER.BASE_LR", "1e-4x", "must be float, received '1e-4x'"),
        ("SOLVER.AMP", 1, "must be a section with keys of its own, received 1"),
    ],
)
def test_values_that_cannot_be_are_refused(key: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        get_cfg().merge_from_list([key, value])
    assert str(error.value).startswith(f"override {key} ")
    assert text in str(error.value)
