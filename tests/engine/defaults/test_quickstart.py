"""Settings without a config file."""

from __future__ import annotations

import pytest

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.defaults.quickstart import quickstart


@pytest.mark.parametrize(
    ("model", "size", "length"), [("fcos_tiny", 320, 3000), ("retinanet_resnet50_fpn", 800, 20000)]
)
def test_sizes_and_length_follow_the_model(model: str, size: int, length: int) -> None:
    cfg = get_cfg()
    quickstart(cfg, model)
    cfg.validate()
    assert (model, (size,), size) == (cfg.MODEL.NAME, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST)
    assert (
        length,
        length // 4,
        length // 4,
    ) == (cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD)


@pytest.mark.parametrize("length", [1, 2, 3, 10, 99, 100_000])
def test_every_length_gives_a_valid_config(length: int) -> None:
    cfg = get_cfg()
    quickstart(cfg, "fcos_tiny", length)
    cfg.validate()
    assert length == cfg.SOLVER.MAX_ITER
    assert 1 <= cfg.TEST.EVAL_PERIOD <= length and 1 <= cfg.SOLVER.CHECKPOINT_PERIOD <= length
    assert 1 <= cfg.SOLVER.WARMUP_ITERS <= 500


def test_other_keys_stay() -> None:
    cfg = get_cfg()
    cfg.SEED, cfg.OUTPUT_DIR = 3, "x"
    quickstart(cfg, "fcos_tiny")
    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.DATASETS) == (3, "x", get_cfg().DATASETS)
