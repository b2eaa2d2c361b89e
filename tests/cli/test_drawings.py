"""Drawings and the JSON file beside them, with a predictor whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.cli.drawings import Drawn, describe_output, draw_all, drawing_names
from drivetrain.data.catalog import Metadata
from drivetrain.data.images import read_image
from drivetrain.engine.defaults.video import VideoFrames, VideoWriter
from drivetrain.errors import DatasetError, OutputError
from drivetrain.structures import BitMasks, Boxes, Instances, bitmask_to_rle, rle_to_bitmask


class Brightness:
    """Sees one box of class 0 with the image's mean brightness as its score, and one of class 5 with score 0.1."""

    metadata = Metadata("drawings", thing_classes=["bright"])

    def __call__(self, images: Any, batch_size: int) -> Iterator[dict[str, Any]]:
        while batch := list(islice(images, batch_size)):
            yield from map(self.look, batch)

    @staticmethod
    def look(image: Any) -> dict[str, Any]:
        pixels = image if isinstance(image, np.ndarray) else read_image(str(image))
        height, width = pixels.shape[:2]
        found = Instances(
            (height, width),
            pred_boxes=Boxes(torch.tensor([[1.0, 2.0, width / 2, height / 2]] * 2)),
            scores=torch.tensor([pixels.mean() / 255, 0.1]),
            pred_classes=torch.tensor([0, 5]),
        )
        return {"instances": found}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Nine frames, each brighter than the one before."""
    with VideoWriter(tmp_path / "clip.mp4", 8) as writer:
        for index in range(9):
            writer.add(np.full((64, 80, 3), 25 * index, np.uint8))
    return tmp_path / "clip.mp4"


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_every_frame_has_its_own_prediction(batch_size: int, video: Path, tmp_path: Path) -> None:
    target, entries_file = tmp_path / "drawn.mp4", tmp_path / "predictions.json"
    drawn = draw_all(Brightness(), {video: target}, entries_file, 0.5, batch_size)
    entries = json.loads(entries_file.read_text())
    assert [entry["frame"] for entry in entries] == list(range(9))
    assert {(entry["file_name"], entry["video"]) for entry in entries} == {(str(video), str(target))}
    scores = [entry["instances"][0]["score"] for entry in entries if entry["instances"]]
    assert scores == pytest.approx([25 * i / 255 for i in range(6, 9)], abs=0.01)  # those of 0.5 or more
    assert drawn == Drawn(objects=3, images=0, videos=1, frames=9)
    pictures = list(VideoFrames(target))
    assert VideoFrames(target).rate == 8 and len(pictures) == 9
    for index, picture in enumerate(pictures):  # a box was drawn on frame i where its prediction says so
        corner = picture[8:40, 8:40].astype(int)
        assert (np.ptp(corner) > 60) == (index >= 6)


def test_images_and_videos(video: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (255, 255, 255)).save(tmp_path / "white.png")
    targets = {tmp_path / "white.png": tmp_path / "white.jpg", video: tmp_path / "out.mp4"}
    drawn = draw_all(Brightness(), targets, tmp_path / "p.json", 0.05, 2)
    entries = json.loads((tmp_path / "p.json").read_text())
    assert drawn.objects == sum(len(entry["instances"]) for entry in entries) == 2 + 9 + 8
    assert entries[0] == {
        "file_name": str(tmp_path / "white.png"),
        "picture": str(tmp_path / "white.jpg"),
        "height": 30,
        "width": 40,
        "instances": [
            {"category": "bright", "category_id": 0, "score": 1.0, "bbox_xyxy": [1.0, 2.0, 20.0, 15.0]},
            {"category": "5", "category_id": 5, "score": pytest.approx(0.1), "bbox_xyxy": [1.0, 2.0, 20.0, 15.0]},
        ],
    }
    assert Image.open(tmp_path / "white.jpg").size == (640, 480)


def test_nothing_to_draw_is_an_empty_list(tmp_path: Path) -> None:
    assert draw_all(Brightness(), {}, tmp_path / "p.json", 0.5, 1) == Drawn()
    assert json.loads((tmp_path / "p.json").read_text()) == []


def test_bad_input_leaves_neither_the_json_nor_the_video(video: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:300])
    for sources in ([broken], [video, broken], [tmp_path / "none.jpg"]):
        targets = drawing_names(sources, tmp_path / "out")
        with pytest.raises(DatasetError, match=r"broken|none"):
            draw_all(Brightness(), targets, tmp_path / "out" / "p.json", 0.5, 1)
        assert {p.name for p in (tmp_path / "out").iterdir()} <= {"clip.mp4"}  # one that was whole before
    with pytest.raises(OutputError, match=r"clip\.mp4 cannot be written"):
        draw_all(Brightness(), {video: tmp_path / "none" / "clip.mp4"}, tmp_path / "p.json", 0.5, 1)
    assert not (tmp_path / "p.json").exists()


def test_names_keep_apart() -> None:
    sources = [Path(name) for name in ("a/x.jpg", "b/x.png", "b/x.mp4", "y.MOV", "z.gif")]
    targets = drawing_names(sources, Path("out"))
    assert [str(target) for target in targets.values()] == [
        "out/x.jpg",
        "out/x_2.jpg",
        "out/x_3.mp4",
        "out/y.mp4",
        "out/z.jpg",
    ]


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (Drawn(), "0 images"),
        (Drawn(images=1), "1 image"),
        (Drawn(videos=2, frames=9), "9 frames of 2 videos"),
        (Drawn(images=3, videos=1, frames=1), "3 images and 1 frame of 1 video"),
    ],
)
def test_words(drawn: Drawn, words: str) -> None:
    assert drawn.where == words


def test_outputs_of_every_kind_are_described() -> None:
    names = ["cat", "dog"]
    assert describe_output({"classes": torch.tensor([0.25, 0.75])}, names, 0.5, (4, 6)) == {
        "height": 4,
        "width": 6,
        "classes": [{"category": "dog", "score": 0.75}, {"category": "cat", "score": 0.25}],
    }
    scores = torch.zeros(3, 4, 6)
    scores[2, :1] = 1
    assert describe_output({"sem_seg": scores}, names, 0.5, (4, 6))["pixels"] == {"cat": 18, "2": 6}
    ids = torch.zeros(4, 6, dtype=torch.int32)
    ids[:2] = 9
    found = describe_output({"panoptic_seg": (ids, [{"id": 9, "category_id": 1}])}, names, 0.5, (4, 6))
    assert found["segments"] == [{"category": "dog", "category_id": 1, "area": 12}]


def test_masks_are_described_by_their_run_lengths() -> None:
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, 1:3, 2:5], masks[1, 0] = True, True
    run_lengths = [bitmask_to_rle(mask) for mask in masks.numpy()]
    for form in (masks, BitMasks(masks), run_lengths):
        found = Instances(
            (4, 6),
            pred_boxes=Boxes(torch.tensor([[0.0, 0, 6, 1], [2, 1, 5, 3]])),
            scores=torch.tensor([0.9, 0.2]),
            pred_classes=torch.tensor([0, 1]),
            pred_masks=form,
        )
        (entry,) = describe_output({"instances": found}, ["cat", "dog"], 0.5, (4, 6))["instances"]
        assert np.array_equal(rle_to_bitmask(json.loads(json.dumps(entry["segmentation"]))), masks[0])
