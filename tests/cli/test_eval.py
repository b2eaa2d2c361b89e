"""``drivetrain eval``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from drivetrain.cli.eval import evaluate
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.defaults.weights import config_of_checkpoint

RESULTS = "inference/coco_instances_results.json"


def moved(trained: Path, command: Any) -> tuple[str, ...]:
    """Overrides that keep the evaluation from writing into the shared folder."""
    return (f"OUTPUT_DIR={command.folder / 'again'}",)


def test_predicts_bit_for_bit_what_the_training_evaluated(command: Any, trained: Path) -> None:
    code, _, err = command("eval", str(trained / "model_final.pth"), "--json", "figures.json", *moved(trained, command))
    assert code == 0, err
    assert (command.folder / "again" / RESULTS).read_bytes() == (trained / RESULTS).read_bytes()
    figures = json.loads(Path("figures.json").read_text())["bbox"]
    lines = [json.loads(line) for line in (trained / "metrics.json").open()]
    last = next(line for line in reversed(lines) if "bbox/AP" in line)
    assert figures and {f"bbox/{name}": value for name, value in figures.items()}.items() <= last.items()


def test_without_the_average_the_predictions_differ(command: Any, trained: Path) -> None:
    """The negative control of the test above: the training evaluated the averaged weights."""
    content = torch.load(trained / "model_final.pth", weights_only=True)
    del content["trainer"]
    torch.save(content, command.folder / "raw.pth")
    code, _, err = command("eval", "raw.pth", *moved(trained, command))
    assert code == 0, err
    assert (command.folder / "again" / RESULTS).read_bytes() != (trained / RESULTS).read_bytes()


def test_on_other_images(command: Any, trained: Path) -> None:
    given = ("--val-json", command.data.train_json, "--val-images", command.data.train_images)
    code, out, err = command("eval", "--checkpoint", str(trained / "model_final.pth"), *given, *moved(trained, command))
    assert code == 0, err
    assert "on val, 8 images" in out


def test_the_training_images_need_not_be_here(command: Any, trained: Path) -> None:
    content = torch.load(trained / "model_final.pth", weights_only=True)
    content["metadata"]["config"] = content["metadata"]["config"].replace(command.data.train_json, "/nowhere.json")
    torch.save(content, command.folder / "far.pth")
    code, _, err = command("eval", "far.pth", "DATASETS.TRAIN=('only_elsewhere',)", *moved(trained, command))
    assert code == 0, err


def test_the_given_config_is_not_changed(command: Any, trained: Path) -> None:
    cfg, _ = config_of_checkpoint(str(trained / "model_final.pth"), get_cfg())
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(trained / "model_final.pth"), str(command.folder / "again")
    cfg.freeze()
    before = cfg.clone()
    results = evaluate(cfg)
    assert cfg == before and set(results) == {"bbox"}


def test_bad_input(command: Any, trained: Path) -> None:
    checkpoint = str(trained / "model_final.pth")
    assert "no checkpoint" in command.refused("eval")
    assert "nothere.pth" in command.refused("eval", "nothere.pth")
    (command.folder / "junk.pth").write_bytes(b"junk")
    assert "junk.pth" in command.refused("eval", "junk.pth")
    torch.save({"model": {}}, command.folder / "bare.pth")
    assert "holds no config" in command.refused("eval", "bare.pth")
    assert "nothing to evaluate on" in command.refused("eval", checkpoint, "DATASETS.TEST=()")
    assert "'vall'" in command.refused("eval", checkpoint, "DATASETS.TEST=('vall',)")
    assert "--val-images" in command.refused("eval", checkpoint, "--val-json", command.data.val_json)
    assert "SOLVER.XX" in command.refused("eval", checkpoint, "SOLVER.XX=1")
    assert "nofolder" in command.refused("eval", checkpoint, "--json", "nofolder/figures.json")
    assert "another shape" in command.refused("eval", checkpoint, "MODEL.NUM_CLASSES=7")


def test_an_image_that_does_not_open(command: Any, trained: Path) -> None:
    images = command.folder / "images"
    shutil.copytree(command.data.val_images, images)
    (images / "000002.jpg").write_bytes(b"")
    given = ("--val-json", command.data.val_json, "--val-images", str(images))
    sentence = command.refused("eval", str(trained / "model_final.pth"), *given, *moved(trained, command))
    assert "000002.jpg" in sentence and "empty" in sentence
