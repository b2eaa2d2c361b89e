"""``drivetrain resume``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.json").open()]
    return [(line["iteration"], line["total_loss"]) for line in lines if "total_loss" in line]


def test_a_training_that_was_cut_off_ends_like_one_that_was_not(command: Any) -> None:
    whole = command.train_args("SOLVER.CHECKPOINT_PERIOD=2", max_iter=4, output="whole")
    assert command(*whole)[0] == 0
    cut = command.train_args("SOLVER.CHECKPOINT_PERIOD=2", max_iter=4, output="cut")
    code, out, _ = command(*cut, "--time-limit", "1e-9")
    assert code == 75
    assert "drivetrain resume cut" in out
    shutil.move("cut", "moved")  # its config names another folder
    code, out, err = command("resume", "moved")
    assert code == 0, err
    assert "Resuming from moved" in out and "restored: model, optimizer" in out
    ends = [torch.load(Path(f) / "model_final.pth", weights_only=True) for f in ("whole", "moved")]
    assert all(torch.equal(value, ends[1]["model"][name]) for name, value in ends[0]["model"].items())
    assert losses(Path("whole")) == losses(Path("moved"))
    assert not Path("cut").exists()


def evaluated(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.json").open()]
    return [(line["iteration"], line["bbox/AP"]) for line in lines if "bbox/AP" in line]


def test_a_training_that_was_ended_after_its_last_iteration_gets_its_end(command: Any, trained: Path) -> None:
    shutil.copytree(trained, command.folder / "out")
    for name in ("finished.json", "report.html"):
        (command.folder / "out" / name).unlink()
    expected = evaluated(trained)
    code, out, err = command("resume", "out")
    assert code == 0, err
    assert "All 4 iterations are done, but the training ended before its last evaluation" in out
    assert "drivetrain predict out/model_final.pth" in out
    assert (command.folder / "out" / "report.html").exists()
    assert [iteration for iteration, _ in expected] == [1, 3] and evaluated(Path("out")) == expected
    assert "no iteration is left" in command.refused("resume", "out")
    (command.folder / "out" / "report.html").unlink()  # the process was ended while it drew
    assert command("resume", "out")[0] == 0
    assert (command.folder / "out" / "report.html").exists() and evaluated(Path("out")) == expected


def test_what_cannot_be_resumed(command: Any, trained: Path) -> None:
    assert "no output folder of a training is given" in command.refused("resume")
    assert "no output folder" in command.refused("resume", "SOLVER.MAX_ITER=9")
    sentence = command.refused("resume", "nothere")
    assert "nothere/config.yaml cannot be read" in sentence
    shutil.copytree(trained, command.folder / "out")
    assert "no iteration is left" in command.refused("resume", "out")
    for file in Path("out").glob("*.pth"):
        file.unlink()
    Path("out/checkpoints.json").unlink()
    Path("out/last_checkpoint").unlink()
    assert "no checkpoint in 'out'" in command.refused("resume", "out")
