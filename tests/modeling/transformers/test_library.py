"""The way to the library: found when needed, and missed with one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

from drivetrain.errors import MissingDependencyError, ModelError
from drivetrain.modeling.transformers.families import FAMILIES
from drivetrain.modeling.transformers.library import (
    KINDS,
    auto_class,
    config_class,
    make_model,
    model_types,
    quiet,
    require_library,
)


@pytest.mark.parametrize("library", ["transformers", "scipy"])
def test_a_missing_library_is_one_sentence(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError) as caught:
        require_library("MODEL.NAME 'dfine_tiny'")
    assert str(caught.value) == (
        f"MODEL.NAME 'dfine_tiny' needs {library}, which is not installed: pip install 'drivetrain[transformers]'"
    )


def test_nothing_imports_it_before_a_model_is_built() -> None:
    """Every file of the package but the model's own; the library is hidden, so an import would fail."""
    program = (
        "import sys; sys.modules['transformers'] = None; sys.modules['scipy'] = None\n"
        "import drivetrain, drivetrain.modeling.transformers.build, drivetrain.modeling.transformers.detector\n"
        "import drivetrain.modeling.transformers.segmenter, drivetrain.modeling.transformers.semantic\n"
        "import drivetrain.modeling.transformers.classifier\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_model_types() -> None:
    assert set(model_types("detection")) == set(FAMILIES)
    assert model_types("masks") == ["mask2former", "maskformer"]
    assert {"segformer", "upernet"} <= set(model_types("semantic"))
    assert {"vit", "swin", "convnext", "resnet"} <= set(model_types("classification"))
    for kind in KINDS:
        assert hasattr(auto_class(kind), "from_pretrained")


def test_config_classes() -> None:
    assert config_class("vit").__name__ == "ViTConfig"
    with pytest.raises(ModelError, match=r"transformers \d.* has no model type 'vti'; did you mean"):
        config_class("vti")


def test_a_config_whose_values_do_not_go_together() -> None:
    config = config_class("mask2former")(feature_size=48)
    with pytest.raises(
        ModelError, match=r"a mask2former from these values \(MODEL\.TRANSFORMERS\.CONFIG\): .*divisible"
    ):
        make_model("masks", config)


def test_types_with_several_classes_build() -> None:
    config = config_class("deit")(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    assert type(make_model("classification", config)).__name__ == "DeiTForImageClassification"


def test_quiet_ends() -> None:
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet():
        assert logging.get_verbosity() > level and not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)
    with pytest.raises(ZeroDivisionError), quiet():
        _ = 1 / 0
    assert logging.get_verbosity() == level
