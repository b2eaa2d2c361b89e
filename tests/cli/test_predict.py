"""``drivetrain predict``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drivetrain.cli.predict import find_images
from drivetrain.errors import DatasetError


def test_pictures_and_json(command: Any, trained: Path) -> None:
    checkpoint = str(trained / "model_final.pth")
    code, out, err = command("predict", checkpoint, command.data.val_images, "--output", "new/drawn", "--score", "0.01")
    assert code == 0, err
    entries = json.loads(Path("new/drawn/predictions.json").read_text())
    assert len(entries) == 4 and sum(len(e["instances"]) for e in entries) > 0
    assert str(sum(len(e["instances"]) for e in entries)) in out
    for entry in entries:
        assert Image.open(entry["picture"]).size[0] >= entry["width"] == 80 and entry["height"] == 64
        for found in entry["instances"]:
            assert found["score"] >= 0.01 and found["category"] in command.data.class_names
            x0, y0, x1, y1 = found["bbox_xyxy"]
            assert 0 <= x0 <= x1 <= 80 and 0 <= y0 <= y1 <= 64


def test_in_batches_the_same(command: Any, trained: Path) -> None:
    entries = []
    for size in ("1", "3"):
        arguments = ("--output", f"by{size}", "--score=0.01", "--batch-size", size)
        assert command("predict", str(trained / "model_final.pth"), command.data.val_images, *arguments)[0] == 0
        entries.append(json.loads(Path(f"by{size}/predictions.json").read_text()))
    for one, other in zip(*entries, strict=True):
        assert [i["category"] for i in one["instances"]] == [i["category"] for i in other["instances"]]
        for a, b in zip(one["instances"], other["instances"], strict=True):
            assert a["bbox_xyxy"] == pytest.approx(b["bbox_xyxy"], abs=0.01)


def test_images_of_one_name_keep_apart(command: Any, trained: Path) -> None:
    for folder in ("a", "b"):
        (command.folder / folder).mkdir()
        shutil.copy(Path(command.data.val_images) / "000000.jpg", command.folder / folder / "same.jpg")
    code, _, _ = command("predict", str(trained / "model_final.pth"), "a/same.jpg", "b", "--output", "d")
    assert code == 0
    assert {p.name for p in Path("d").iterdir()} == {"same.jpg", "same_2.jpg", "predictions.json"}


def test_find_images(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", "c[1].jpg"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_images([str(tmp_path)])] == ["a.jpg", "b.PNG", "c[1].jpg"]
    assert [p.name for p in find_images([str(tmp_path / "c[1].jpg"), str(tmp_path / "*.jpg")])] == ["c[1].jpg", "a.jpg"]
    for wrong in (str(tmp_path / "*.gif"), str(tmp_path / "nothere")):
        with pytest.raises(DatasetError, match="no such file"):
            find_images([wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        find_images([str(tmp_path / "empty")])


def test_bad_input(command: Any, trained: Path) -> None:
    checkpoint, images = str(trained / "model_final.pth"), command.data.val_images
    assert "nothere.pth" in command.refused("predict", "nothere.pth", images)
    assert "'none*.jpg'" in command.refused("predict", checkpoint, "none*.jpg")
    assert "--score 2.0" in command.refused("predict", checkpoint, images, "--score", "2")
    assert "--batch-size 0" in command.refused("predict", checkpoint, images, "--batch-size", "0")
    assert "MODEL.XX" in command.refused("predict", checkpoint, images, "--set", "MODEL.XX=1")
    (command.folder / "file").write_text("x")
    assert "file" in command.refused("predict", checkpoint, images, "--output", "file")
    assert "IMAGE" in command.refused("predict", checkpoint)


def test_an_image_that_does_not_open_leaves_no_picture(command: Any, trained: Path) -> None:
    shutil.copytree(command.data.val_images, command.folder / "images")
    (command.folder / "images/000003.jpg").write_bytes(b"junk")
    assert "000003.jpg" in command.refused("predict", str(trained / "model_final.pth"), "images", "--output", "d")


def test_never_draws_over_the_images(command: Any, trained: Path) -> None:
    shutil.copytree(command.data.val_images, command.folder / "images")
    sentence = command.refused("predict", str(trained / "model_final.pth"), "images", "--output", "images")
    assert "overwrite" in sentence and "--output" in sentence
