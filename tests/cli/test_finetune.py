"""``drivetrain finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def one_class(content: Any) -> None:
    for annotation in content["annotations"]:
        annotation["category_id"] = content["categories"][0]["id"]
    content["categories"] = content["categories"][:1]


def test_on_other_classes(command: Any, trained: Path) -> None:
    path = command.changed_json("one.json", one_class)
    given = ("--train-json", str(path), "--train-images", command.data.train_images, "DATASETS.TEST=()")
    code, out, err = command(
        "finetune", str(trained / "model_final.pth"), "--output", "tuned", "--max-iter", "2", *given
    )
    assert code == 0, err
    assert "Fine-tuning: weights from" in out and "other shape" in out and "cls_logits" in out
    saved = torch.load("tuned/model_final.pth", weights_only=True)
    assert saved["iteration"] == 1 and saved["metadata"]["class_names"] == ["circle"]
    again = command.refused("finetune", str(trained / "model_final.pth"), "--output", "tuned", *given)
    assert "holds the checkpoints of a training" in again


def test_bad_input(command: Any, trained: Path) -> None:
    assert "no checkpoint to start from is given" in command.refused("finetune", "--output", "tuned")
    assert "nothere.pth" in command.refused("finetune", "nothere.pth", "--output", "tuned")
    assert "--output" in command.refused("finetune", str(trained / "model_final.pth"))
