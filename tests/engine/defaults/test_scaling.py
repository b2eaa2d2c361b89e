"""A config made for another number of ranks."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.defaults.scaling import scale_to_ranks
from drivetrain.errors import ConfigError


def config(reference: int, **solver: Any) -> Any:
    cfg = get_cfg()
    cfg.SOLVER.REFERENCE_WORLD_SIZE = reference
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


@pytest.mark.parametrize(("reference", "ranks"), [(0, 4), (8, 8)])
def test_nothing_to_do_gives_the_config_itself(reference: int, ranks: int) -> None:
    cfg = config(reference)
    assert scale_to_ranks(cfg, ranks) is cfg


def test_linear_scaling_rule() -> None:
    cfg = config(8, IMS_PER_BATCH=16, BASE_LR=0.1, MAX_ITER=5000, STEPS=(4000, 4600), CHECKPOINT_PERIOD=1000)
    cfg.SOLVER.WARMUP_ITERS, cfg.TEST.EVAL_PERIOD = 100, 500
    cfg.freeze()
    scaled = scale_to_ranks(cfg, 16)
    solver = scaled.SOLVER
    assert (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.STEPS) == (32, 2500, (2000, 2300))
    assert pytest.approx(0.2) == solver.BASE_LR
    assert (solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (50, 500, 250)
    assert solver.REFERENCE_WORLD_SIZE == 16 and scaled.is_frozen()
    assert cfg.SOLVER.IMS_PER_BATCH == 16 and cfg.SOLVER.BASE_LR == 0.1
    scaled.validate()
    back = scale_to_ranks(scaled, 8)
    assert back.SOLVER.MAX_ITER == 5000 and back.SOLVER.IMS_PER_BATCH == 16


def test_short_trainings_stay_valid() -> None:
    scaled = scale_to_ranks(config(1, IMS_PER_BATCH=2, MAX_ITER=3, CHECKPOINT_PERIOD=1, STEPS=(1, 2)), 8)
    scaled.validate()
    assert scaled.SOLVER.MAX_ITER >= 1 and scaled.SOLVER.CHECKPOINT_PERIOD >= 1 and scaled.TEST.EVAL_PERIOD == 0


def test_evaluation_that_was_asked_for_stays() -> None:
    cfg = config(1)
    cfg.TEST.EVAL_PERIOD = 1
    assert scale_to_ranks(cfg, 4).TEST.EVAL_PERIOD == 1


def test_epochs_stay() -> None:
    scaled = scale_to_ranks(config(2, MAX_ITER="12ep"), 4)
    assert scaled.SOLVER.MAX_ITER == "12ep"


def test_a_batch_that_cannot_be_divided() -> None:
    with pytest.raises(ConfigError, match=r"IMS_PER_BATCH=10 must be divisible by SOLVER\.REFERENCE_WORLD_SIZE=4"):
        scale_to_ranks(config(4, IMS_PER_BATCH=10), 2)
