"""Model names."""

from __future__ import annotations

import pytest
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling import MODELS, ModelRegistry
from drivetrain.modeling.entry import ModelEntry


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


def test_names_with_a_librarys_prefix() -> None:
    registry = ModelRegistry({"a": ModelEntry(build)}, {"timm": ModelEntry(other, {"A": 1}, ("classes",))})
    entry = registry.entry("timm/resnet18")
    assert (entry.load(), entry.targets) == (other, ("classes",))
    assert dict(entry.values) == {"A": 1, "BACKBONE.NAME": "timm/resnet18"}
    assert "timm/resnet18" in registry
    for name in ("timm/", "tim/resnet18", "resnet18"):
        assert name not in registry
        with pytest.raises(ModelError, match=r"known names: a; timm/NAME are these libraries' models"):
            registry.entry(name)
    registry.register("timm/mine")(build)  # a name of one's own comes first
    assert registry.entry("timm/mine").load() is build
    registry.register_preset("small", "timm/resnet18", {"A": 2})
    assert dict(registry.entry("small").values) == {"A": 2, "BACKBONE.NAME": "timm/resnet18"}


def test_what_a_model_learns_from_is_registered_with_it() -> None:
    registry = ModelRegistry()
    registry.register("boxes")(build)
    registry.register("masks", targets=("boxes", "masks"))(build)
    registry.register("one", targets="sem_seg")(build)
    registry.register_preset("more", "masks", {"A": 1})
    targets = {name: registry.entry(name).targets for name in registry.names()}
    assert targets == {
        "boxes": ("boxes",),
        "masks": ("boxes", "masks"),
        "more": ("boxes", "masks"),
        "one": ("sem_seg",),
    }
    with pytest.raises(ModelError, match="'sem_seq'; did you mean 'sem_seg'"):
        registry.register("bad", targets=("sem_seq",))(build)
    assert "bad" not in registry
