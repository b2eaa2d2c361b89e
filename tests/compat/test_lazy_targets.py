"""What a text may build."""

from __future__ import annotations

import os

import pytest
import torch
import torchvision

from drivetrain.compat.lazy_targets import locate, name_of, target_from_text
from drivetrain.errors import ConfigError

HARMLESS = {
    "torch.nn.Linear": torch.nn.Linear,
    "torch.nn.modules.linear.Linear": torch.nn.Linear,
    "torch.optim.AdamW": torch.optim.AdamW,
    "torchvision.models.resnet18": torchvision.models.resnet18,
}
HARMFUL = (
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "eval",
    "torch.load",
    "torch.nn.functional.torch.load",
    "torch.nn.modules.module.torch.hub.load",
    "torch.nn.functional.importlib.import_module",
    "torchvision.models._utils.nn.Linear",
    "torch.nn.modules.module.warnings",
    "torch.nn",
    "torch.nnx.Linear",
    "drivetrain.compat.runner.run_main",
    "drivetrain.compat.lazy.LazyConfig.load",
    "drivetrain.engine.launch",
    "detectron2.engine.launch",
    "drivetrain.checkpoint.files.atomic_write",
    "torch.nn.Module.__init__",
    "torch.nn.Module.apply",
    "torch.nn.parallel.parallel_apply",
    "timm.create_model",
    "timm.models.load_checkpoint",
    "drivetrain.modeling.entry.ModelEntry.load",
    "drivetrain.evaluation.files.write_json",
    "detectron2.utils.file_io.PathManager",
)


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_names_are_found(name: str) -> None:
    assert target_from_text(name) is HARMLESS[name]


def test_names_of_detectron2_are_those_here() -> None:
    from drivetrain.compat.layers import FrozenBatchNorm2d
    from drivetrain.compat.modeling import build_model

    assert target_from_text("detectron2.modeling.build_model") is build_model
    assert target_from_text("detectron2.layers.FrozenBatchNorm2d") is FrozenBatchNorm2d


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not among what a text may build"):
        target_from_text(name)


def test_more_can_be_allowed_and_what_is_missing_is_told() -> None:
    assert target_from_text("fractions.Fraction", allow=("fractions",))(1, 2) * 2 == 1
    with pytest.raises(ConfigError, match="cannot be found"):
        target_from_text("torch.nn.Linaer")
    with pytest.raises(ConfigError, match="cannot be found"):
        locate("no_such_package.x")


def test_names() -> None:
    assert (
        name_of(torch.nn.Linear) == "torch.nn.modules.linear.Linear" and locate(name_of(os.path.join)) is os.path.join
    )
    with pytest.raises(ConfigError, match="has no name"):
        name_of(lambda: 0)
