from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.voc import load_voc_instances
from drivetrain.data.formats.voc_writer import write_voc
from drivetrain.errors import OutputError


def dataset(name: str = "x/a.jpg", classes: tuple[str, ...] = ("cat", "big & <old>"), **more: Any) -> ReadDataset:
    annotation = {"category_id": 1, "bbox": [0, 4, 20.5, 6], **more}
    record = {"file_name": f"r/{name}", "height": 10, "width": 30, "annotations": [annotation]}
    return ReadDataset([record], "r", {"thing_classes": list(classes)})


def test_boxes_come_back(shapes_read: ReadDataset, tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    losses = write_voc(out, {"train": shapes_read}, "copy")
    count = sum(len(r["annotations"]) for r in shapes_read.records)
    assert +losses == {"masks": count, "keypoints": count}
    for again, original in zip(load_voc_instances(out, "train"), shapes_read.records, strict=True):
        assert Path(again["file_name"]).read_bytes() == Path(original["file_name"]).read_bytes()
        for a, b in zip(again["annotations"], original["annotations"], strict=True):
            x, y, w, h = b["bbox"]
            assert (a["category_id"], a["bbox"]) == (b["category_id"], [x, y, x + w, y + h])
    assert (out / "classes.txt").read_text().split() == ["circle", "square", "triangle"]


def test_the_file_counts_pixels_from_one(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": dataset(difficult=1)}, "none")
    root = ElementTree.parse(tmp_path / "Annotations" / "a.xml").getroot()
    assert root.findtext("filename") == "a.jpg" and root.findtext("object/name") == "big & <old>"
    assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["30", "10", "3"]
    corners = [root.findtext(f"object/bndbox/{c}") for c in ("xmin", "ymin", "xmax", "ymax")]
    assert corners == ["1", "5", "20.5", "10"] and root.findtext("object/difficult") == "1"
    assert (tmp_path / "ImageSets" / "Main" / "train.txt").read_text() == "a\n"


def test_images_of_one_name_in_two_splits_are_told_apart(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": dataset(), "val": dataset("y/a.jpg")}, "none")
    assert sorted(p.name for p in (tmp_path / "Annotations").iterdir()) == ["train_a.xml", "val_a.xml"]
    assert (tmp_path / "ImageSets" / "Main" / "val.txt").read_text() == "val_a\n"


def test_crowds_are_left_out(tmp_path: Path) -> None:
    assert +write_voc(tmp_path, {"train": dataset(iscrowd=1)}, "none") == {"crowd regions (left out)": 1}
    assert ElementTree.parse(tmp_path / "Annotations" / "a.xml").getroot().find("object") is None


def test_names_that_xml_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the name 'c\\x07' has a character that an XML file cannot hold"):
        write_voc(tmp_path, {"train": dataset(classes=("a", "c\x07"))}, "none")
