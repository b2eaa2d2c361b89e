"""``drivetrain predict``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from drivetrain.cli.predict import find_inputs
from drivetrain.data.images import read_image
from drivetrain.engine.defaults.video import VideoFrames
from drivetrain.errors import DatasetError


def write_video(command: Any, name: str, count: int) -> VideoFrames:
    """A video of the test images, 12 frames a second."""
    images = [read_image(path) for path in sorted(Path(command.data.val_images).iterdir())]
    path = command.folder / name
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        for i in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(images[i % len(images)], format="rgb24")))
        container.mux(stream.encode())
    return VideoFrames(path)


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


def test_find_inputs(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", "c[1].jpg", "d.MP4"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_inputs([str(tmp_path)])] == ["a.jpg", "b.PNG", "c[1].jpg", "d.MP4"]
    assert [p.name for p in find_inputs([str(tmp_path / "c[1].jpg"), str(tmp_path / "*.jpg")])] == ["c[1].jpg", "a.jpg"]
    for wrong in (str(tmp_path / "*.gif"), str(tmp_path / "nothere")):
        with pytest.raises(DatasetError, match="no such file"):
            find_inputs([wrong])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no images and no videos"):
        find_inputs([str(tmp_path / "empty")])


def test_bad_input(command: Any, trained: Path) -> None:
    checkpoint, images = str(trained / "model_final.pth"), command.data.val_images
    assert "nothere.pth" in command.refused("predict", "nothere.pth", images)
    assert "'none*.jpg'" in command.refused("predict", checkpoint, "none*.jpg")
    assert "--score 2.0" in command.refused("predict", checkpoint, images, "--score", "2")
    assert "--batch-size 0" in command.refused("predict", checkpoint, images, "--batch-size", "0")
    assert "MODEL.XX" in command.refused("predict", checkpoint, images, "--set", "MODEL.XX=1")
    (command.folder / "file").write_text("x")
    assert "file" in command.refused("predict", checkpoint, images, "--output", "file")
    assert "INPUT" in command.refused("predict", checkpoint)


def test_an_image_that_does_not_open_leaves_no_picture(command: Any, trained: Path) -> None:
    shutil.copytree(command.data.val_images, command.folder / "images")
    (command.folder / "images/000003.jpg").write_bytes(b"junk")
    assert "000003.jpg" in command.refused("predict", str(trained / "model_final.pth"), "images", "--output", "d")


def test_never_draws_over_the_images(command: Any, trained: Path) -> None:
    shutil.copytree(command.data.val_images, command.folder / "images")
    sentence = command.refused("predict", str(trained / "model_final.pth"), "images", "--output", "images")
    assert "overwrite" in sentence and "--output" in sentence


def test_a_video_becomes_a_video(command: Any, trained: Path) -> None:
    frames = write_video(command, "in/walk.mp4", 6)
    shutil.copy(Path(command.data.val_images) / "000000.jpg", "in/walk.jpg")
    arguments = ("--output", "drawn", "--score", "0.01", "--batch-size", "4")
    code, out, err = command("predict", str(trained / "model_final.pth"), "in", *arguments)
    assert code == 0, err
    assert "in 1 image and 6 frames of 1 video: drawn" in out
    assert {p.name for p in Path("drawn").iterdir()} == {"walk.jpg", "walk_2.mp4", "predictions.json"}
    entries = json.loads(Path("drawn/predictions.json").read_text())
    assert [entry.get("frame") for entry in entries] == [None, 0, 1, 2, 3, 4, 5]
    assert all(entry["video"] == "drawn/walk_2.mp4" for entry in entries[1:])
    assert sum(len(entry["instances"]) for entry in entries[1:]) > 0
    drawn = VideoFrames("drawn/walk_2.mp4")
    pictures = list(drawn)
    assert drawn.rate == frames.rate == 12 and len(pictures) == 6
    assert pictures[0].shape == (480, 600, 3)  # small frames are enlarged like small images


def test_a_damaged_video_leaves_nothing(command: Any, trained: Path) -> None:
    checkpoint = str(trained / "model_final.pth")
    write_video(command, "whole.avi", 40)
    Path("cut.avi").write_bytes(Path("whole.avi").read_bytes()[:-4000])
    Path("empty.mp4").write_bytes(b"")
    image = str(Path(command.data.val_images) / "000000.jpg")
    assert "cut.avi' is damaged or cut off at " in command.refused("predict", checkpoint, image, "cut.avi")
    assert "empty.mp4' is damaged or no video" in command.refused("predict", checkpoint, image, "empty.mp4")
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    assert "cut.avi" in command.refused("predict", checkpoint, image, "cut.avi", "--output", "out")
