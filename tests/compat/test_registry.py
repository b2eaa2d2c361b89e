"""The registry of architectures."""

from __future__ import annotations

import pytest
from torch import nn

from drivetrain.compat.config import get_cfg
from drivetrain.compat.modeling import FCOS, RetinaNet
from drivetrain.compat.registry import META_ARCH_REGISTRY
from drivetrain.errors import UserInputError
from drivetrain.modeling import build_model
from drivetrain.modeling.build import class_count_key
from drivetrain.modeling.registry import MODELS


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
    assert META_ARCH_REGISTRY.get("FCOS") is FCOS and "FCOS" in META_ARCH_REGISTRY
    with pytest.raises(KeyError, match="META_ARCH has no 'Mine'"):
        META_ARCH_REGISTRY.get("Mine")
