"""Registries."""

from __future__ import annotations

import pytest
from torch import nn

from drivetrain.compat.config import get_cfg
from drivetrain.compat.modeling import RetinaNet
from drivetrain.compat.registry import META_ARCH_REGISTRY, Registry
from drivetrain.errors import UserInputError
from drivetrain.modeling import build_model
from drivetrain.modeling.build import class_count_key
from drivetrain.modeling.registry import MODELS


def test_decorator_and_call() -> None:
    registry = Registry("THINGS")

    @registry.register()
    class One:
        pass

    def two() -> None: ...

    registry.register(two)
    assert registry.get("One") is One and "two" in registry and [name for name, _ in registry] == ["One", "two"]
    with pytest.raises(KeyError, match=r"THINGS has no 'on'.*did you mean 'One'"):
        registry.get("on")
    with pytest.raises(UserInputError, match=r"'One' is already registered in THINGS"):
        registry.register(type("One", (), {}))


def test_a_registered_architecture_is_what_the_config_builds() -> None:
    try:

        @META_ARCH_REGISTRY.register()
        class Mine(nn.Module):
            def __init__(self, cfg: object) -> None:
                super().__init__()
                self.layer = nn.Linear(1, 1)

        cfg = get_cfg()
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "Mine", "cpu"
        assert type(build_model(cfg)) is Mine and class_count_key(cfg) is None
        assert META_ARCH_REGISTRY.get("Mine") is Mine and "Mine" in META_ARCH_REGISTRY
        with pytest.raises(UserInputError, match="'Mine' is already registered in META_ARCH"):
            META_ARCH_REGISTRY.register(type("Mine", (), {}))
    finally:
        MODELS.remove("Mine")
    assert "Mine" not in META_ARCH_REGISTRY and META_ARCH_REGISTRY.get("RetinaNet") is RetinaNet
    with pytest.raises(KeyError, match="META_ARCH has no 'Mine'"):
        META_ARCH_REGISTRY.get("Mine")
