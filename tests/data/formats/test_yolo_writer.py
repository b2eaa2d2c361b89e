from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.writing import Losses
from drivetrain.data.formats.yolo import load_yolo
from drivetrain.data.formats.yolo_writer import write_yolo
from drivetrain.errors import DatasetError
from drivetrain.structures import polygons_to_bitmask


def test_outlines_come_back(shapes_read: ReadDataset, tmp_path: Path) -> None:
    for key in ("keypoint_names", "keypoint_flip_map"):
        del shapes_read.metadata[key]
    (out := tmp_path / "out").mkdir()
    losses = write_yolo(out, {"train": shapes_read, "val": shapes_read}, "link")
    assert +losses == Losses()
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "circle", 1: "square", 2: "triangle"},
    }
    for split in ("train", "val"):
        for again, original in zip(load_yolo(out / "data.yaml", split), shapes_read.records, strict=True):
            assert Path(again["file_name"]).samefile(original["file_name"])
            for a, b in zip(again["annotations"], original["annotations"], strict=True):
                assert a["category_id"] == b["category_id"]
                assert a["bbox"] == pytest.approx(b["bbox"], abs=1e-6)
                masks = [polygons_to_bitmask(item["segmentation"], 48, 64) for item in (a, b)]
                assert np.array_equal(*masks)


def test_keypoints_come_back(shapes_read: ReadDataset, tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    losses = write_yolo(out, {"train": shapes_read}, "copy")
    count = sum(len(r["annotations"]) for r in shapes_read.records)
    assert +losses == {"masks, as there are keypoints": count}
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content["kpt_shape"] == [4, 3] and content["flip_idx"] == [0, 3, 2, 1]
    assert content["kpt_names"][2] == ["top", "right", "bottom", "left"]
    for again, original in zip(load_yolo(out / "data.yaml"), shapes_read.records, strict=True):
        for a, b in zip(again["annotations"], original["annotations"], strict=True):
            assert a["keypoints"] == pytest.approx(b["keypoints"], abs=1e-6)
            assert a["bbox"] == pytest.approx(b["bbox"], abs=1e-6)


def test_lines_are_shares_of_the_image(tmp_path: Path) -> None:
    annotations = [
        {"category_id": 1, "bbox": [10, 10, 20, 40], "difficult": 1},
        {"category_id": 0, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        {"category_id": 0, "bbox": [0, 0, 9, 9], "segmentation": [[0, 0, 9, 0, 9, 9], [0, 0, 5, 0, 5, 5]]},
    ]
    record = {"file_name": "r/a.jpg", "height": 50, "width": 100, "annotations": annotations}
    read = ReadDataset([record], "r", {"thing_classes": ["x", "y"]})
    losses = write_yolo(tmp_path, {"train": read}, "none")
    lines = (tmp_path / "labels" / "train" / "a.txt").read_text().splitlines()
    assert lines == ["1 0.2 0.6 0.2 0.8", "0 0 0 0.09 0 0.09 0.18"]
    assert +losses == {
        "the mark 'difficult'": 1,
        "crowd regions (left out)": 1,
        "parts and holes of masks (one outline each)": 1,
    }


def test_splits_have_the_names_of_yolo(shapes_read: ReadDataset, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match="YOLO data has the splits train, val, test, not 'trian'; did you mean 'train'"
    ):
        write_yolo(tmp_path, {"trian": shapes_read}, "copy")
