from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.registration import register_from_config
from drivetrain.data.formats.synthetic import make_synthetic
from drivetrain.errors import DatasetError

NAMES = ("reg_a", "reg_b")


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in NAMES:
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
        if name in MetadataCatalog:
            MetadataCatalog.remove(name)


def test_entries_are_registered_and_read_later() -> None:
    entries = {
        "reg_a": {"json": "a.json", "images": "dir"},
        "reg_b": {"FORMAT": "COCO", "JSON": "~/b.json", "IMAGES": "d"},
    }
    assert register_from_config(entries) == ["reg_a", "reg_b"]
    assert MetadataCatalog.get("reg_a").image_root == "dir"
    assert MetadataCatalog.get("reg_b").json_file == str(Path.home() / "b.json")
    with pytest.raises(DatasetError, match=r"'a\.json' does not exist"):
        DatasetCatalog.get("reg_a")


def test_entries_of_every_format_are_registered() -> None:
    entries = {
        "reg_a": {"format": "yolo", "yaml": "data.yaml", "split": "val"},
        "reg_b": {"format": "sem_seg", "images": "i", "labels": "l", "classes": ["x"]},
    }
    assert register_from_config(entries) == register_from_config(entries) == ["reg_a", "reg_b"]
    assert (MetadataCatalog.get("reg_a").data_yaml, MetadataCatalog.get("reg_a").split) == ("data.yaml", "val")
    assert MetadataCatalog.get("reg_b").stuff_classes == ["x"]
    with pytest.raises(DatasetError, match="'split': 'train'.*is already registered with .*'split': 'val'"):
        register_from_config({"reg_a": {"format": "yolo", "yaml": "data.yaml"}})


def test_the_same_entry_twice_is_fine_and_another_is_not() -> None:
    entry = {"json": "a.json", "images": "dir"}
    register_from_config({"reg_a": entry})
    register_from_config({"reg_a": dict(entry)})
    with pytest.raises(DatasetError, match=r"DATASETS\.REGISTER\.reg_a.*already registered with .*'a\.json'"):
        register_from_config({"reg_a": {"json": "other.json", "images": "dir"}})


def test_a_name_registered_by_hand_is_not_taken_over() -> None:
    DatasetCatalog.register("reg_a", list)
    with pytest.raises(DatasetError, match="already registered"):
        register_from_config({"reg_a": {"json": "a.json", "images": "dir"}})


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"json": "a.json", "image": "dir"}, r"reg_b has the unknown key 'image'; did you mean 'images'"),
        (
            {"format": "coko", "json": "a", "images": "b"},
            r"unknown format 'coko'; did you mean 'coco'\? \(known: coco, coco_panoptic, ",
        ),
        ({"json": "a.json"}, r"reg_b\.images is missing"),
        ({"json": 5, "images": "b"}, r"reg_b\.json is 5"),
        ({"json": "", "images": "b"}, r"reg_b\.json is ''"),
        ("a.json", r"must be like \{format: coco"),
    ],
)
def test_a_wrong_entry_is_named_and_nothing_is_registered(entry: object, why: str) -> None:
    with pytest.raises(DatasetError, match=why):
        register_from_config({"reg_a": {"json": "a.json", "images": "b"}, "reg_b": entry})
    assert "reg_a" not in DatasetCatalog


def test_something_that_is_no_mapping() -> None:
    with pytest.raises(DatasetError, match="must map dataset names"):
        register_from_config(["a.json"])


def test_the_command_that_makes_missing_files_is_named(tmp_path: Path) -> None:
    data = make_synthetic(tmp_path / "shapes", train=2, val=1, size=(32, 32))
    entry = {"json": data.train_json, "images": data.train_images, "made_by": "make shapes"}
    register_from_config({"reg_a": entry})
    assert len(DatasetCatalog.get("reg_a")) == len(DatasetCatalog.store("reg_a")) == 2
    assert not isinstance(DatasetCatalog.store("reg_a"), list)  # still what makes each record when it is taken out
    Path(data.train_json).unlink()
    for load in (DatasetCatalog.get, DatasetCatalog.store):
        with pytest.raises(DatasetError, match=r"instances_train\.json' does not exist; make it with: make shapes"):
            load("reg_a")
    with pytest.raises(DatasetError, match=r"reg_b\.made_by is 3; give a text"):
        register_from_config({"reg_b": {**entry, "made_by": 3}})
