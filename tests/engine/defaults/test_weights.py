"""Weights for use, and the config that comes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.config import CfgNode
from drivetrain.engine.defaults import DefaultTrainer, get_cfg
from drivetrain.engine.defaults.weights import config_of_checkpoint, load_for_inference
from drivetrain.errors import CheckpointError, UnknownKeyError


def trained(cfg: Any) -> DefaultTrainer:
    trainer = DefaultTrainer(cfg)
    trainer.train()
    return trainer


@pytest.mark.parametrize("averaged", [True, False])
def test_the_average_is_used_where_there_is_one(make_cfg: Any, averaged: bool) -> None:
    trainer = trained(make_cfg("out", "DATASETS.TEST=()", f"SOLVER.EMA.ENABLED={averaged}"))
    model = trainer.build_model(trainer.cfg)
    metadata = load_for_inference(model, trainer.cfg.OUTPUT_DIR + "/model_final.pth")
    assert metadata["class_names"] and metadata["channel_order"] == "RGB"
    own = dict(trainer.model.named_parameters())
    equal = [torch.equal(p, own[name]) for name, p in model.named_parameters()]
    assert all(equal) is not averaged
    with trainer._weights_for_evaluation():
        assert all(torch.equal(p, own[name]) for name, p in model.named_parameters())


def test_nothing_to_load(make_cfg: Any) -> None:
    assert load_for_inference(torch.nn.Linear(1, 1), "") == {}


def test_the_config_travels_with_keys_of_the_script(make_cfg: Any) -> None:
    cfg = make_cfg("out", "DATASETS.TEST=()", "SOLVER.MAX_ITER=1")
    cfg.WANDB = CfgNode({"PROJECT": "p"})
    trainer = trained(cfg)
    base = get_cfg()
    found, names = config_of_checkpoint(cfg.OUTPUT_DIR + "/model_final.pth", base)
    assert found.WANDB.PROJECT == "p" and base == get_cfg()
    assert found.MODEL.NUM_CLASSES == len(names) == trainer.cfg.MODEL.NUM_CLASSES
    assert found.DATASETS == trainer.cfg.DATASETS
    with pytest.raises(UnknownKeyError, match=r"SOLVER\.XX"):
        found.merge_from_list(["SOLVER.XX=1"])
    found.merge_from_list(["DATASETS.REGISTER.more.json=x"])


def test_without_a_config(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"bare\.pth holds no config"):
        config_of_checkpoint(str(tmp_path / "bare.pth"), get_cfg())
    with pytest.raises(CheckpointError, match=r"nothere\.pth does not exist"):
        config_of_checkpoint(str(tmp_path / "nothere.pth"), get_cfg())
