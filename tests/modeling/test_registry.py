"""Model names."""

from __future__ import annotations

import pytest
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling import MODELS, ModelRegistry
from drivetrain.modeling.registry import ModelEntry


def build(cfg) -> nn.Module:
    return nn.Identity()


def other(cfg) -> nn.Module:
    return nn.Identity()


def test_register_and_look_up() -> None:
    registry = ModelRegistry()
    assert registry.register("mine")(build) is build
    assert registry.entry("mine").load() is build
    assert "mine" in registry
    assert registry.names() == ["mine"]


def test_a_name_is_given_once() -> None:
    registry = ModelRegistry({"mine": ModelEntry(build)})
    registry.register("mine")(build)  # the same again, as when a module is reloaded, is no error
    with pytest.raises(ModelError, match="'mine' is taken"):
        registry.register("mine")(other)
    registry.remove("mine")
    registry.register("mine")(other)
    assert registry.entry("mine").load() is other


def test_preset_inherits_and_overrides() -> None:
    registry = ModelRegistry({"base": ModelEntry(build, {"A": 1, "B": 2})})
    registry.register_preset("small", "base", {"B": 3})
    assert dict(registry.entry("small").values) == {"A": 1, "B": 3}
    assert registry.entry("small").load() is build
    with pytest.raises(ModelError, match="'bose'"):
        registry.register_preset("x", "bose", {})


def test_unknown_name_lists_close_and_all_names() -> None:
    with pytest.raises(ModelError) as error:
        MODELS.entry("fcos_tinny")
    assert "did you mean 'fcos_tiny'" in str(error.value)
    assert "ssdlite320_mobilenet_v3_large" in str(error.value)
    with pytest.raises(ModelError, match="known names: a"):
        ModelRegistry({"a": ModelEntry(build)}).remove("zzz")


def test_entries_are_imported_when_used() -> None:
    assert ModelEntry("collections:OrderedDict").load().__name__ == "OrderedDict"
