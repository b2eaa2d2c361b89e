"""Configs with detectron2's keys, and what is built from them."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.compat.config import configurable, get_cfg, is_config
from drivetrain.config import CfgNode
from drivetrain.errors import ConfigError


class Head:
    @configurable
    def __init__(self, width: int, *, depth: int = 1, name: str = "") -> None:
        self.made = (width, depth, name)

    @classmethod
    def from_config(cls, cfg: CfgNode, depth: int = 1) -> dict[str, Any]:
        return {"width": cfg.MODEL.FPN.OUT_CHANNELS, "depth": depth}


class Wider(Head):
    @classmethod
    def from_config(cls, cfg: CfgNode, depth: int = 1) -> dict[str, Any]:
        return {**super().from_config(cfg, depth), "name": "wider"}


def test_each_config_is_its_own() -> None:
    one, other = get_cfg(), get_cfg()
    one.MODEL.ROI_HEADS.NUM_CLASSES = 2
    assert other.MODEL.ROI_HEADS.NUM_CLASSES == 80 and type(one.MODEL) is CfgNode
    assert is_config(one) and not is_config({"x": 1}) and not is_config([1])


def test_an_init_takes_a_config_or_its_arguments() -> None:
    cfg = get_cfg()
    assert Head(3, depth=2, name="a").made == (3, 2, "a")
    assert Head(cfg).made == (256, 1, "")
    assert Head(cfg, depth=4, name="b").made == (256, 4, "b")
    assert Head(cfg=cfg, depth=4).made == (256, 4, "")
    assert Wider(cfg, 5).made == (256, 5, "wider")


def test_a_function_takes_a_config_or_its_arguments() -> None:
    @configurable(from_config=lambda cfg, scale=1: {"rate": cfg.SOLVER.BASE_LR * scale})
    def rate_of(rate: float, unit: str = "") -> str:
        return f"{rate}{unit}"

    assert rate_of(0.5) == "0.5" and rate_of(get_cfg()) == "0.001"
    assert rate_of(get_cfg(), scale=2, unit="/it") == "0.002/it"


def test_misuse_is_said() -> None:
    with pytest.raises(ConfigError, match=r"@configurable decorates an __init__"):
        configurable(lambda: None)

    class Bare:
        @configurable
        def __init__(self, width: int) -> None:
            self.width = width

    assert Bare(1).width == 1
    with pytest.raises(ConfigError, match=r"Bare is @configurable and needs a classmethod from_config"):
        Bare(get_cfg())
