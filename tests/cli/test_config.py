"""``drivetrain config``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivetrain.config import CfgNode
from drivetrain.engine.defaults.config import get_cfg


def test_the_config_in_full_loads_again(command: Any) -> None:
    code, out, _ = command("config", "SOLVER.BASE_LR=0.01", "MODEL.NAME", "retinanet_tiny")
    assert code == 0
    shown = get_cfg()
    shown.merge_from_other_cfg(CfgNode.load_cfg(out))
    wanted = get_cfg()
    wanted.SOLVER.BASE_LR, wanted.MODEL.NAME = 0.01, "retinanet_tiny"
    assert shown == wanted


def test_file_and_overrides(command: Any) -> None:
    Path("c.yaml").write_text("SOLVER:\n  IMS_PER_BATCH: 3\n  MAX_ITER: 12ep\n")
    code, out, _ = command("config", "--config-file", "c.yaml", "SOLVER.IMS_PER_BATCH=4")
    shown = CfgNode.load_cfg(out)
    assert code == 0 and (shown.SOLVER.IMS_PER_BATCH, shown.SOLVER.MAX_ITER) == (4, "12ep")


def test_keys_are_listed_with_type_default_and_meaning(command: Any) -> None:
    code, out, _ = command("config", "--keys", "solver.ema")
    assert code == 0
    assert "SOLVER.EMA.ENABLED (bool) = False" in out and "SOLVER.EMA.DECAY (float) = 0.9998" in out
    assert "moving average" not in out or "MODEL" not in out
    assert "MODEL.NAME" not in out
    everything = command("config", "--keys")[1]
    assert everything.count(" = ") >= 90


def test_mistakes(command: Any) -> None:
    assert "'SOLVER.BASE_LR'" in command.refused("config", "SOLVER.BASE_L=1")
    assert "nothere.yaml" in command.refused("config", "--config-file", "nothere.yaml")
    assert "'qqq'" in command.refused("config", "--keys", "qqq")
