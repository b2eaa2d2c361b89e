"""The default config and its lengths."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from drivetrain.config import CfgNode
from drivetrain.engine.defaults.config import get_cfg, resolve_lengths
from drivetrain.errors import ConfigError
from drivetrain.solver import build_lr_scheduler, build_optimizer


def test_every_config_is_its_own() -> None:
    first, second = get_cfg(), get_cfg()
    assert type(first) is CfgNode and first == second
    first.MODEL.PIXEL_MEAN.append(1.0)
    first.DATASETS.REGISTER.a = {"json": "x"}
    assert second == get_cfg()


def test_code_in_the_wild_may_extend_it() -> None:
    cfg = get_cfg()
    cfg.DATASETS.VAL = ("mine",)
    cfg.WANDB = CfgNode()
    cfg.WANDB.PROJECT = "p"
    cfg.DATASETS.TRAIN = "one_name"
    cfg.INPUT.MIN_SIZE_TRAIN = 640
    cfg.SOLVER.STEPS = []
    cfg.freeze()
    cfg.validate()
    assert isinstance(cfg, dict)
    assert all(type(value) is CfgNode for value in cfg.values() if isinstance(value, dict))
    tidy = cfg.normalized()
    assert (tidy.DATASETS.TRAIN, tidy.INPUT.MIN_SIZE_TRAIN, tidy.SOLVER.STEPS) == (("one_name",), (640,), ())


def test_epochs_become_iterations() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(
        ["SOLVER.MAX_ITER=12ep", "TEST.EVAL_PERIOD=1ep", "SOLVER.WARMUP_ITERS", "0.5ep", "SOLVER.IMS_PER_BATCH", "4"]
    )
    resolved = resolve_lengths(cfg, samples=205)
    lengths = (resolved.SOLVER.MAX_ITER, resolved.TEST.EVAL_PERIOD, resolved.SOLVER.WARMUP_ITERS)
    assert lengths == (615, 52, 26)
    assert resolved.SOLVER.CHECKPOINT_PERIOD == 5000
    assert cfg.SOLVER.MAX_ITER == "12ep"
    assert not resolved.is_frozen()


def test_accumulated_batches_count_for_one_iteration() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.MAX_ITER=2ep", "SOLVER.IMS_PER_BATCH=4", "SOLVER.ACCUMULATE=5"])
    cfg.freeze()
    resolved = resolve_lengths(cfg, samples=100)
    assert resolved.SOLVER.MAX_ITER == 10
    assert resolved.is_frozen()


def test_epochs_of_an_unknown_training_set_are_an_error_that_names_the_key() -> None:
    cfg = get_cfg()
    assert resolve_lengths(cfg, None) == cfg
    cfg.TEST.EVAL_PERIOD = "1ep"
    with pytest.raises(ConfigError, match=r"^TEST\.EVAL_PERIOD is '1ep', which becomes iterations only where"):
        resolve_lengths(cfg, None)
    cfg.TEST.EVAL_PERIOD = "often"
    with pytest.raises(ConfigError, match=r"^TEST\.EVAL_PERIOD must be iterations"):
        resolve_lengths(cfg, 10)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize(
    "schedule",
    ["WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "OneCycleLR", "ReduceLROnPlateau"],
)
@pytest.mark.parametrize("clip", ["value", "norm", "full_model"])
def test_the_solver_takes_every_choice_of_the_schema(optimizer: str, schedule: str, clip: str) -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.OPTIMIZER", optimizer, "SOLVER.LR_SCHEDULER_NAME", schedule])
    cfg.merge_from_list(["SOLVER.CLIP_GRADIENTS.ENABLED=True", f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE={clip}"])
    cfg.freeze()
    model = torch.nn.Linear(2, 2)
    built = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, built)
    model(torch.ones(1, 2)).sum().backward()
    built.step()
    scheduler.step(0.5) if schedule == "ReduceLROnPlateau" else scheduler.step()
    assert 0 < built.param_groups[0]["lr"] <= 0.001


def test_the_default_config_needs_no_torch() -> None:
    code = "import sys; from drivetrain.engine.defaults.config import get_cfg; get_cfg(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
