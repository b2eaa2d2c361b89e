"""Lazy configs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.compat.lazy import LazyCall, LazyConfig, instantiate
from drivetrain.errors import ConfigError
from drivetrain.modeling.detectron2.layers import ShapeSpec

PROJECT = """
from drivetrain.compat.lazy import LazyCall as L
import torch
from torch import nn

model = L(nn.Sequential)
model = L(nn.Linear)(in_features=3, out_features="${.in_features}")
optimizer = L(torch.optim.SGD)(lr=0.1, momentum=0.9)
train = dict(max_iter=5, output_dir="./out", amp=dict(enabled=False))
number = 3
_hidden = dict(x=1)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "config.py").write_text(PROJECT)
    return tmp_path


def test_what_is_described_is_made_arguments_first() -> None:
    def pair(first: Any, second: Any, third: Any) -> tuple[Any, ...]:
        return first, second, third

    inner = LazyCall(nn.Linear)(in_features=2, out_features=1, bias=False)
    made = instantiate(LazyCall(pair)(first=inner, second=[inner, 4], third={"plain": 1}))
    assert isinstance(made[0], nn.Linear) and made[0].bias is None
    assert isinstance(made[1][0], nn.Linear) and made[1][0] is not made[0] and made[1][1] == 4
    assert made[2] == {"plain": 1} and instantiate(7) == 7
    assert isinstance(instantiate(LazyCall("collections.OrderedDict")(a=1)), dict)  # a name in Python is Python's


def test_mistakes_are_told() -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        LazyCall(3)
    with pytest.raises(ConfigError, match=r"torch\.nn\.modules\.linear\.Linear cannot be made with in_feature"):
        instantiate(LazyCall(nn.Linear)(in_feature=3))


def test_a_config_in_python_is_loaded_changed_and_made(project: Path) -> None:
    cfg = LazyConfig.load(project / "config.py")
    assert set(cfg) == {"model", "optimizer", "train"}
    LazyConfig.apply_overrides(cfg, ["model.in_features=7", "train.amp.enabled=True", "optimizer.lr=1e-3", "new.x=[1]"])
    model = instantiate(cfg.model)
    assert (model.in_features, model.out_features) == (7, 7)
    assert cfg.train.amp.enabled is True and cfg.optimizer.lr == 1e-3 and cfg.new.x == [1]
    cfg.optimizer.params = list(model.parameters())
    assert isinstance(instantiate(cfg.optimizer), torch.optim.SGD)
    assert LazyConfig.load(project / "config.py", "number") == 3
    model_node, train = LazyConfig.load(str(project / "config.py"), ("model", "train"))
    assert model_node.in_features == 3 and train.max_iter == 5
    for override, message in (
        ("model", "KEY=VALUE"),
        ("train.max_iter.x=1", "has no keys"),
    ):
        with pytest.raises(ConfigError, match=message):
            LazyConfig.apply_overrides(cfg, [override])
    with pytest.raises(ConfigError, match="has no 'nothing'; it has"):
        LazyConfig.load(project / "config.py", "nothing")


def test_overrides_reach_into_lists() -> None:
    cfg = LazyConfig.apply_overrides(LazyCall(dict)(rows=[{"a": 1}, 2]), ["rows.0.a=5", "rows.1=6"])
    assert cfg.rows == [{"a": 5}, 6]
    with pytest.raises(ConfigError, match="no index of a list of 2"):
        LazyConfig.apply_overrides(cfg, ["rows.9=6"])


def test_what_is_saved_is_data_and_loads_again(project: Path) -> None:
    cfg = LazyConfig.load(project / "config.py")
    LazyConfig.save(cfg, project / "saved.yaml")
    again = LazyConfig.load(project / "saved.yaml")
    assert again.model._target_ == "torch.nn.modules.linear.Linear"
    assert dict(again.model.raw_items())["out_features"] == "${.in_features}"
    assert instantiate(again.model).out_features == 3 and again.train == cfg.train
    cfg.train.thing = object()
    with pytest.raises(ConfigError, match=r"train\.thing holds"):
        LazyConfig.save(cfg, project / "saved.yaml")
    assert LazyConfig.load(project / "saved.yaml") == again


def test_yaml_runs_nothing(project: Path) -> None:
    marker = project / "ran"
    for text in (
        f"x: {{_target_: os.system, command: touch {marker}}}",
        f"x: {{_target_: torch.nn.Linear, in_features: {{_target_: os.system, command: touch {marker}}}}}",
    ):
        (project / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match="not among what a text may build"):
            instantiate(LazyConfig.load(project / "bad.yaml").x)
    entry = "drivetrain.modeling.entry.ModelEntry"  # which imports what its text names
    lookup = f"{{_target_: {entry}.load, self: {{_target_: {entry}, target: 'os:system'}}}}"
    (project / "bad.yaml").write_text(f"x: {{_target_: {lookup}, command: touch {marker}}}")
    with pytest.raises(ConfigError, match="is no class or function"):
        instantiate(LazyConfig.load(project / "bad.yaml").x)
    (project / "bad.yaml").write_text(f"x: !!python/object/apply:os.system ['touch {marker}']")
    with pytest.raises(ConfigError):
        LazyConfig.load(project / "bad.yaml")
    (project / "own.yaml").write_text("x: {_target_: fractions.Fraction, numerator: 3}")
    assert instantiate(LazyConfig.load(project / "own.yaml").x, allow=["fractions"]) == 3
    assert not marker.exists() and os.path.isdir(project)


def test_files_relative_to_the_caller(project: Path) -> None:
    (project / "outer.py").write_text(
        "from drivetrain.compat.lazy import LazyConfig\nmodel = LazyConfig.load_rel('config.py', 'model')\n"
    )
    assert LazyConfig.load(project / "outer.py").model.in_features == 3
    with pytest.raises(ConfigError, match="no lazy config"):
        LazyConfig.load(project / "x.json")


def test_as_text() -> None:
    cfg = {"model": LazyCall(nn.Linear)(in_features=3, name="a"), "rows": [1, {"a": "${b}"}]}
    assert LazyConfig.to_py(cfg) == (
        "cfg.model = torch.nn.modules.linear.Linear(in_features=3, name='a')\ncfg.rows = [1, {'a': '${b}'}]\n"
    )


def test_models_of_the_zoo_are_reachable() -> None:
    cfg = LazyCall("drivetrain.compat.model_zoo.get_config")(config_path="COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    assert instantiate(cfg).MODEL.META_ARCHITECTURE == "RetinaNet"
    text = {"_target_": "detectron2.model_zoo.get_config", "config_path": "COCO-Detection/retinanet_R_50_FPN_1x.yaml"}
    assert instantiate(text).MODEL.META_ARCHITECTURE == "RetinaNet"


def test_values_of_dataclasses_are_written_as_the_calls_that_make_them(tmp_path: Path) -> None:
    LazyConfig.save({"shape": ShapeSpec(channels=3, stride=4), "other": [ShapeSpec(1)]}, tmp_path / "c.yaml")
    loaded = LazyConfig.load(tmp_path / "c.yaml")
    assert instantiate(loaded.shape) == ShapeSpec(channels=3, stride=4)
    assert instantiate(loaded.other) == [ShapeSpec(channels=1)]
