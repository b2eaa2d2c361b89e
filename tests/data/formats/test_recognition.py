from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.data.formats.recognition import (
    json_file,
    label_folder,
    mapped,
    recognized,
    refuse_bare_yolo,
    split_folder,
    split_in,
    yolo_file,
)
from drivetrain.errors import DatasetError

Draw = Callable[..., Path]
Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, draw: Draw) -> Put:
    """Writes files below ``tmp_path``: images where the name is one's, else the text after the name."""

    def write(*names: str, **texts: str) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() in (".jpg", ".png"):
                draw(path)
            else:
                path.write_text(texts.get(path.suffix[1:], '{"images": []}'))

    return write


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["data.yaml", "images/a.jpg"], "yolo"),
        (["Annotations/a.xml", "JPEGImages/a.jpg", "SegmentationClass/a.png", "images/a.jpg"], "voc"),
        (["annotations/a.xml", "images/a.jpg"], "voc"),
        (["a.xml", "a.jpg"], "voc"),
        (["train/a.xml", "train/a.jpg", "valid/b.xml", "valid/b.jpg"], "voc"),
        (["a.json", "a.jpg"], "coco"),
        (["annotations/instances_default.json", "images/a.jpg"], "coco"),
        (["train/_annotations.coco.json", "train/a.jpg"], "coco"),
        (["images/a.jpg", "annotations/a.png"], "sem_seg"),
        (["images/a.jpg", "masks/a.png"], "sem_seg"),
        (["cat/a.jpg", "dog/.hidden.jpg", "__MACOSX/x/a.jpg"], "folder"),
        (["train/cat/a.jpg", "valid/cat/a.jpg"], "folder"),
        (["masks/a.jpg", "no_masks/a.jpg"], "folder"),
        (["cat/a.jpg", "cat/a.txt"], "folder"),
        (["cat/a.jpg", "empty/classes.json"], "folder"),
    ],
)
def test_datasets_as_tools_write_them(tmp_path: Path, put: Put, files: list[str], kind: str) -> None:
    put(*files, txt="a photo of a cat")
    assert recognized(str(tmp_path), None, None) == kind


def test_panoptic_files_and_given_images(tmp_path: Path, put: Put) -> None:
    put("annotations/a.json", json='{"images": [], "annotations": [{"segments_info": []}]}')
    assert recognized(str(tmp_path), None, None) == "coco_panoptic"
    put("maps/a.png")
    assert recognized(str(tmp_path / "maps"), "elsewhere", None) == "sem_seg"


@pytest.mark.parametrize("files", [["images/a.jpg"], ["images/a.jpg", "annotations/a.txt"], ["cat/.a.jpg"], ["a.jpg"]])
def test_images_alone_are_no_dataset(tmp_path: Path, put: Put, files: list[str]) -> None:
    put(*files, txt="words")
    with pytest.raises(DatasetError, match="holds no dataset of a known format"):
        recognized(str(tmp_path), None, None)


def test_labels_of_yolo_without_their_file_tell_what_to_write(tmp_path: Path, put: Put) -> None:
    put("images/a.jpg", "images/b.jpg", "labels/a.txt", txt="")
    put("notes.json", json='{"categories": [{"id": 0, "name": "cat"}]}')
    put("labels/b.txt", txt="0 0.5 0.5 1 1\n")
    put("classes.txt", txt="cat\ndog\n")
    with pytest.raises(DatasetError, match=r"YOLO \('labels/b\.txt'\) but no data\.yaml: write that file") as error:
        recognized(str(tmp_path), None, None)
    assert str(error.value).endswith("with the lines 'train: images' and 'names: [cat, dog]'")
    (tmp_path / "data.yaml").touch()
    assert yolo_file(str(tmp_path)) == str(tmp_path / "data.yaml") and recognized(str(tmp_path), None, None) == "yolo"


def test_labels_beside_the_images(tmp_path: Path, put: Put) -> None:
    put("obj_train_data/a.jpg", "obj_train_data/a.txt", txt="0 0.5 0.5 1 1\n")
    with pytest.raises(DatasetError, match="'train: obj_train_data' and 'names: .FIRST CLASS, SECOND CLASS.'"):
        refuse_bare_yolo(str(tmp_path))
    for text in (b"\xff", b"3\n", b"0 0.5 0.5 1\n", b""):
        (tmp_path / "obj_train_data" / "a.txt").write_bytes(text)
        refuse_bare_yolo(str(tmp_path))


def test_the_annotation_file_of_a_split(tmp_path: Path, put: Put) -> None:
    put("annotations/instances_train.json", "annotations/instances_valid.json")
    root = str(tmp_path)
    for split in ("val", "valid"):
        assert json_file(root, split) == str(tmp_path / "annotations" / "instances_valid.json")
    with pytest.raises(DatasetError, match=r"holds 2 annotation files: give one of them \(annotations/instances_train"):
        json_file(root, None)
    with pytest.raises(DatasetError, match="holds 0 annotation files: give one of them$"):
        json_file(str(tmp_path / "none"), None)
    put("parts/train/a.json", "parts/valid/b.json")
    put("parts/valid/notes.json", json="{}")
    assert json_file(str(tmp_path / "parts"), None) == str(tmp_path / "parts" / "train" / "a.json")
    assert json_file(str(tmp_path / "parts"), "val") == str(tmp_path / "parts" / "valid" / "b.json")
    assert json_file(str(tmp_path / "parts" / "valid" / "b.json"), "train").endswith("b.json")


def test_folders_of_splits_and_labels(tmp_path: Path, put: Put) -> None:
    put("valid/a.jpg", "test/a.jpg")
    root = str(tmp_path)
    assert split_folder(root, None) == str(tmp_path / "test") and split_folder(root, "train") == ""
    assert split_folder(root, "val") == split_folder(root, "validation") == str(tmp_path / "valid")
    assert label_folder(root) == ""
    put("images/a.jpg", "labels/a.txt", "gt/a.tif")
    assert label_folder(root) == str(tmp_path / "gt")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("x/instances_val2017.json", "val"),
        ("x/a_valid.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("x/validation", "val"),
        ("train/instances_test.json", "test"),
        ("x/interval.json", ""),
        ("trains/a.json", ""),
    ],
)
def test_splits_told_by_names(path: str, split: str) -> None:
    assert split_in(path) == split


def test_content_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "empty.json").touch()
    assert mapped(str(tmp_path / "a.json"))[:] == b'{"a": 1}' and mapped(str(tmp_path / "empty.json")) == b""


def test_json_files_without_images_are_no_annotations(tmp_path: Path, put: Put) -> None:
    put("classes.json", "train/notes.json", json='{"0": "cat"}')
    put("train/cat/a.jpg")
    assert recognized(str(tmp_path), None, None) == "folder"
    put("train/instances.json")
    assert recognized(str(tmp_path), None, None) == "coco"
