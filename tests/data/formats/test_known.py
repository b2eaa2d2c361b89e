from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.known import FORMATS, read_entry
from drivetrain.data.formats.synthetic import (
    make_synthetic,
    make_synthetic_classification,
    make_synthetic_panoptic,
    make_synthetic_segmentation,
)
from drivetrain.errors import DatasetError

Draw = Callable[..., Path]


@pytest.fixture
def entries(tmp_path: Path, draw: Draw) -> dict[str, dict[str, Any]]:
    """One entry for each format, of a dataset that is there."""
    coco = make_synthetic(tmp_path / "coco", train=1, val=1, size=(32, 32))
    maps = make_synthetic_segmentation(tmp_path / "maps", train=1, val=1, size=(32, 32))
    panoptic = make_synthetic_panoptic(tmp_path / "pan", train=1, val=1, size=(32, 32))
    sorted_images = make_synthetic_classification(tmp_path / "cls", train=1, val=1, size=(32, 32))
    draw(tmp_path / "voc" / "a.jpg")
    (tmp_path / "voc" / "a.xml").write_text("<annotation/>")
    draw(tmp_path / "yolo" / "images" / "a.jpg")
    (tmp_path / "yolo" / "labels").mkdir()
    (tmp_path / "yolo" / "labels" / "a.txt").write_text("0 0.5 0.5 1 1")
    (tmp_path / "yolo" / "data.yaml").write_text("train: images\nnames: [x]")
    (tmp_path / "names.txt").write_text("\n".join(maps.class_names))
    return {
        "coco": {"json": coco.train_json, "images": coco.train_images},
        "coco_panoptic": {
            "json": panoptic.train_json,
            "images": panoptic.train_images,
            "labels": panoptic.train_panoptic,
        },
        "voc": {"folder": str(tmp_path / "voc")},
        "yolo": {"yaml": str(tmp_path / "yolo" / "data.yaml")},
        "sem_seg": {"images": maps.train_images, "labels": maps.train_labels, "classes": str(tmp_path / "names.txt")},
        "folder": {"images": sorted_images.train},
    }


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_registered_and_loaded(entries: dict[str, dict[str, Any]], name: str) -> None:
    known, values = read_entry("DATASETS.REGISTER.x", {"FORMAT": name.upper(), **entries[name]})
    known.register("x", values)
    assert known.is_same(values, MetadataCatalog.get("x"))
    (record,) = DatasetCatalog.get("x")
    assert {"file_name", "image_id", "height", "width"} <= set(record)
    assert known.is_same(values, MetadataCatalog.get("x"))
    for key in known.files:
        assert not known.is_same({**values, key: "other"}, MetadataCatalog.get("x"))


def test_values_are_read_with_defaults(tmp_path: Path) -> None:
    _, values = read_entry("x", {"json": "~/a.json", "images": Path("b")})
    assert values == {"json": str(Path.home() / "a.json"), "images": "b"}
    _, values = read_entry(
        "x", {"format": "sem_seg", "labels": "a", "images": "b", "classes": ["c"], "ignore_label": 0}
    )
    assert values == {
        "labels": "a",
        "images": "b",
        "classes": ["c"],
        "ignore_label": 0,
        "label_ext": "png",
        "image_ext": None,
    }
    _, values = read_entry("x", {"format": "voc", "folder": "a", "split": None})
    assert values == {"folder": "a", "split": None, "year": 2012, "classes": None}


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("a.json", r"x must be like \{format: coco, json: FILE, images: FOLDER\}, not 'a\.json'"),
        ({"format": "yollo"}, r"x has the unknown format 'yollo'; did you mean 'yolo'\? \(known: coco, coco_panoptic"),
        ({"format": 5}, "x has the unknown format 5"),
        (
            {"json": "a", "image": "b"},
            r"unknown key 'image'; did you mean 'images'\? \(known: format, json, images, made_by\)",
        ),
        ({"json": "a"}, r"x\.images is missing; give the path of the folder of images"),
        ({"json": 5, "images": "b"}, r"x\.json is 5; give the path of the annotation file"),
        ({"format": "yolo", "yaml": "a", "split": 5}, r"x\.split is 5; give a text"),
        ({"format": "yolo", "yaml": "a", "root": 5}, r"x\.root is 5; give a path"),
        ({"format": "voc", "folder": "a", "year": "2007"}, r"x\.year is '2007'; give a whole number"),
        ({"format": "folder", "images": "a", "classes": []}, r"x\.classes is \[\]; give the names of the classes"),
        ({"format": "folder", "images": "a", "classes": "none.txt"}, r"'none\.txt' does not exist"),
    ],
)
def test_wrong_entries(entry: Any, why: str) -> None:
    with pytest.raises(DatasetError, match=why):
        read_entry("x", entry)


def test_what_was_registered_from_other_options_is_another_dataset() -> None:
    known, values = read_entry("x", {"format": "yolo", "yaml": "a.yaml", "split": "val"})
    known.register("x", values)
    _, other = read_entry("x", {"format": "yolo", "yaml": "a.yaml"})
    assert known.is_same(values, MetadataCatalog.get("x")) and not known.is_same(other, MetadataCatalog.get("x"))
