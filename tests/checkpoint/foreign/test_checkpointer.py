"""The checkpointer for models of detectron2's configs."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from drivetrain.checkpoint.foreign.checkpointer import DetectionCheckpointer, load_foreign
from drivetrain.errors import CheckpointError, IncompatibleWeightsError


def model(classes: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, classes))


def write(path: Path, source: nn.Module) -> Path:
    arrays = {name: value.numpy() for name, value in source.state_dict().items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}, 2))
    return path


def equal(a: nn.Module, b: nn.Module, part: str = "") -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for (name, x), y in pairs if name.startswith(part))


def test_a_pickle_is_loaded(tmp_path: Path) -> None:
    trained, fresh = model(), model()
    DetectionCheckpointer(fresh).load(str(write(tmp_path / "m.pkl", trained)))
    assert equal(fresh, trained)


def test_a_model_of_more_classes_is_a_start_and_what_it_lacks_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained, fresh = model(80), model(3)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with caplog.at_level(logging.WARNING):
        checkpointer = DetectionCheckpointer(fresh, str(tmp_path / "out"))
        checkpointer.resume_or_load(str(write(tmp_path / "m.pkl", trained)), resume=True)
    assert torch.equal(fresh[0].weight, trained[0].weight) and torch.equal(fresh[1].weight, before["1.weight"])
    assert "1.weight, 1.bias" in caplog.text and "another shape" in caplog.text
    DetectionCheckpointer(trained, str(tmp_path)).save("own")
    again = model(3)
    DetectionCheckpointer(again).load(str(tmp_path / "own.pth"), checkpointables=[])
    assert torch.equal(again[0].weight, trained[0].weight)


def test_a_checkpoint_to_go_on_from_is_restored_wholly_or_not_at_all(tmp_path: Path) -> None:
    trained = model(2)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    DetectionCheckpointer(trained, str(tmp_path), optimizer=optimizer).save("model_0000009", iteration=9)
    fresh = model(2)
    state = torch.optim.SGD(fresh.parameters(), lr=0.5)
    rest = DetectionCheckpointer(fresh, str(tmp_path), optimizer=state).resume_or_load("", resume=True)
    assert rest["iteration"] == 9 and equal(fresh, trained) and state.param_groups[0]["lr"] == 0.1
    other = model(3)
    with pytest.raises(IncompatibleWeightsError, match=r"1\.weight"):
        DetectionCheckpointer(other, optimizer=torch.optim.SGD(other.parameters(), lr=1.0)).load(
            str(tmp_path / "model_0000009.pth")
        )


def test_a_training_of_detectron2_goes_on_though_it_saves_other_constants(tmp_path: Path) -> None:
    class Head(nn.Linear):
        """A layer with what RetinaNets have beside detectron2's tensors."""

        def __init__(self) -> None:
            super().__init__(3, 4)
            self.register_buffer("loss_normalizer", torch.tensor(7.0))

    trained, fresh = Head(), Head()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    state = {name: value for name, value in trained.state_dict().items() if name != "loss_normalizer"}
    state["anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    torch.save({"model": state, "optimizer": optimizer.state_dict(), "iteration": 5}, tmp_path / "model_0000005.pth")
    restored = torch.optim.SGD(fresh.parameters(), lr=0.5)
    rest = DetectionCheckpointer(fresh, optimizer=restored).load(str(tmp_path / "model_0000005.pth"))
    assert rest["iteration"] == 5 and restored.param_groups[0]["lr"] == 0.1
    assert torch.equal(fresh.weight, trained.weight) and fresh.loss_normalizer == 100


def test_addresses_are_files_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DRIVETRAIN_WEIGHTS", str(tmp_path))
    address = "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/x/1/model_final_abc123.pkl"
    with pytest.raises(CheckpointError, match=r"download model_final_abc123\.pkl from https"):
        DetectionCheckpointer(model()).load(address)
    trained, fresh = model(), model()
    write(tmp_path / "model_final_abc123.pkl", trained)
    DetectionCheckpointer(fresh).load(address)
    assert equal(fresh, trained)


def test_weights_of_another_model_change_nothing(tmp_path: Path) -> None:
    fresh = model()
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(IncompatibleWeightsError, match="no tensor of this model"):
        load_foreign(fresh, write(tmp_path / "m.pkl", nn.Conv2d(1, 1, 1)))
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    DetectionCheckpointer(fresh).load("")
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
