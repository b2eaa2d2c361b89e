"""The command ``drivetrain weights``."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from drivetrain.checkpoint import read_checkpoint
from drivetrain.cli.weights import run
from drivetrain.compat.config import get_cfg
from drivetrain.errors import CheckpointError, ConfigError
from drivetrain.modeling.detectron2 import build_detectron2_model

CONFIG = """
MODEL:
  RESNETS: {WIDTH_PER_GROUP: 4, RES2_OUT_CHANNELS: 16, STEM_OUT_CHANNELS: 8}
  ROI_HEADS: {NUM_CLASSES: 2}
  LOAD_PROPOSALS: true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    cfg = get_cfg()
    cfg.merge_from_file(tmp_path / "config.yaml")
    state = build_detectron2_model(cfg).state_dict()
    arrays = {name: value.numpy() for name, value in state.items()}
    odd = arrays.popitem()[1]
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": {**arrays, "odd": odd}}, 2))
    torch.save({"model": state, "iteration": 9, "optimizer": {}}, tmp_path / "m.pth")
    return tmp_path


def test_a_pickle_and_an_own_checkpoint_are_converted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["convert", str(folder / "m.pth"), "--output", str(folder / "a.pth"), "--classes", "cat", "dog"]
    assert run(command) == 0
    assert "the whole model" in capsys.readouterr().out
    written, given = read_checkpoint(folder / "a.pth"), torch.load(folder / "m.pth", weights_only=True)
    assert written["metadata"]["class_names"] == ["cat", "dog"]
    assert all(torch.equal(written["model"][name], value) for name, value in given["model"].items())
    assert run([*command, "--all"]) == 0
    assert "backbone.stem.conv1.weight" in capsys.readouterr().out


def test_the_table_names_what_does_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["convert", str(folder / "m.pkl"), "--output", str(folder / "a.pth")]
    with pytest.raises(CheckpointError, match="lacks tensors"):
        run(command)
    table = capsys.readouterr().out
    assert "missing" in table and "unexpected" in table and "odd" in table
    assert "stem" not in table  # it matches
    assert run([*command, "--partial"]) == 0
    assert "a part of the model" in capsys.readouterr().out


def test_hostile_and_unclear_files_are_refused(folder: Path) -> None:
    class Command:
        def __reduce__(self) -> object:
            return os.system, (f"touch {folder / 'ran'}",)

    (folder / "bad.pkl").write_bytes(pickle.dumps({"model": {"w": Command()}}))
    output = ["--output", str(folder / "a.pth")]
    with pytest.raises(CheckpointError, match="refused"):
        run(["convert", str(folder / "bad.pkl"), *output])
    assert not (folder / "ran").exists() and not (folder / "a.pth").exists()
    with pytest.raises(ConfigError, match="has no config 'x.yaml'"):
        run(["convert", str(folder / "m.pkl"), *output, "--zoo", "x.yaml"])
