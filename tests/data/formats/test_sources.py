from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivetrain.data.formats.coco import load_coco_json
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.label_maps import write_label_map
from drivetrain.data.formats.sources import Source, find_source, read_source
from drivetrain.data.formats.synthetic import (
    make_synthetic,
    make_synthetic_classification,
    make_synthetic_panoptic,
    make_synthetic_segmentation,
)
from drivetrain.errors import DatasetError

Draw = Callable[..., Path]
SMALL = {"train": 2, "val": 1, "size": (32, 32)}


def count(source: Source) -> int:
    report = DefectReport(source.path)
    read = read_source(source, report)
    assert read is not None and not report
    return len(read.records)


def test_coco_files_and_their_images(tmp_path: Path) -> None:
    made = make_synthetic(tmp_path, **SMALL)  # the images of both splits have the same names
    for json_file, images, number in ((made.train_json, made.train_images, 2), (made.val_json, made.val_images, 1)):
        source = find_source(json_file)
        assert source == Source("coco", json_file, images)
        assert count(source) == number
    assert find_source(made.val_json).split_name == "val"
    assert find_source(made.val_json, images="elsewhere").images == "elsewhere"
    with pytest.raises(DatasetError, match=r"holds 2 annotation files: give one of them \(instances_train\.json, inst"):
        find_source(tmp_path)
    for split, file, images in (("train", made.train_json, made.train_images), ("val", made.val_json, made.val_images)):
        assert find_source(tmp_path, split=split) == Source("coco", file, images, split=split)
        assert find_source(tmp_path, split=split, format="coco").path == file
    with pytest.raises(DatasetError, match=r"give one of them \(.*\), or the split \(--split\)"):
        find_source(tmp_path, split="test")


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("train/_annotations.coco.json", "train"),
        ("a.json", "images"),
        ("annotations/person_keypoints_val.json", "images/val"),
        ("labels/a.json", "images"),
    ],
)
def test_usual_places_of_images(tmp_path: Path, annotations: str, images: str) -> None:
    made = make_synthetic(tmp_path / "made", **SMALL)
    target = tmp_path / "data" / annotations
    target.parent.mkdir(parents=True)
    shutil.copytree(made.val_images, tmp_path / "data" / images, dirs_exist_ok=True)
    shutil.copy(made.val_json, target)
    assert find_source(target).images == str(tmp_path / "data" / images)
    shutil.rmtree(tmp_path / "data" / images, ignore_errors=True)
    shutil.rmtree(tmp_path / "made")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text('{"images": [{"file_name": "x.jpg"}]}')
    with pytest.raises(DatasetError, match="folder of the images of .* is not found near it; give it with --images"):
        find_source(target)


def test_records_of_coco_files_are_those_of_the_loader(tmp_path: Path) -> None:
    made = make_synthetic(tmp_path, **SMALL)
    report = DefectReport("x")
    read = read_source(find_source(made.train_json), report)
    assert read is not None
    content = json.loads(Path(made.train_json).read_text())
    assert [record.pop("entry") for record in read.records] == content["images"]
    assert [a.pop("entry") for r in read.records for a in r["annotations"]] == content["annotations"]
    assert read.records == load_coco_json(made.train_json, made.train_images)
    assert read.sections == {k: v for k, v in content.items() if k not in ("images", "annotations")}
    assert read.metadata["thing_classes"] == list(made.class_names)
    assert read.metadata["keypoint_flip_map"] == [("left", "right")]
    content["annotations"][0]["bbox"] = "x"
    Path(made.train_json).write_text(json.dumps(content))
    assert read_source(find_source(made.train_json), report) is None and report.has_errors


def test_panoptic_files(tmp_path: Path) -> None:
    made = make_synthetic_panoptic(tmp_path, **SMALL)
    source = find_source(made.val_json)
    assert source == Source("coco_panoptic", made.val_json, made.val_images, made.val_panoptic)
    assert count(source) == 1
    shutil.move(made.val_panoptic, tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="folder of the PNGs .* is not found; give it with --labels"):
        find_source(made.val_json)
    assert count(find_source(made.val_json, labels=str(tmp_path / "elsewhere"))) == 1


def test_label_maps(tmp_path: Path) -> None:
    made = make_synthetic_segmentation(tmp_path, **SMALL)
    source = find_source(tmp_path)
    assert source == Source("sem_seg", made.train_labels, made.train_images, "", "train", made.class_names)
    assert count(source) == 2
    source = find_source(tmp_path, split="val", classes=["a"])
    assert (source.path, source.classes) == (made.val_labels, ("a",)) and count(source) == 1
    source = find_source(made.val_labels, images=made.val_images)
    assert (source.format, source.images, source.classes) == ("sem_seg", made.val_images, made.class_names)
    report = DefectReport("x")
    read = read_source(source, report)
    assert read is not None
    assert read.metadata == {"stuff_classes": list(made.class_names), "ignore_label": 255}
    with pytest.raises(DatasetError, match="has no folders 'images' and 'labels'"):
        find_source(made.val_images, format="sem_seg")


def test_label_maps_with_several_ends(tmp_path: Path, draw: Draw) -> None:
    for name in ("a", "b", "c"):
        draw(tmp_path / "images" / f"{name}.JPG")
    for name in ("a.png", "b.png", "c.tif"):
        draw(tmp_path / "masks" / name)
    assert count(find_source(tmp_path)) == 3


def test_images_by_class(tmp_path: Path) -> None:
    made = make_synthetic_classification(tmp_path, **SMALL)
    source = find_source(tmp_path)
    assert source == Source("folder", made.train, split="train", classes=made.class_names)
    assert count(source) == 2 and count(find_source(tmp_path, split="val")) == 1
    assert find_source(made.val) == Source("folder", made.val)
    with pytest.raises(DatasetError, match=r"has no folder 'test' \(it has: train, val\)"):
        find_source(tmp_path, split="test")


def test_voc_and_yolo(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "voc" / "JPEGImages" / "a.jpg")
    (tmp_path / "voc" / "Annotations").mkdir()
    (tmp_path / "voc" / "Annotations" / "a.xml").write_text("<annotation/>")
    assert find_source(tmp_path / "voc") == Source("voc", str(tmp_path / "voc"))
    assert find_source(tmp_path / "voc", split="val") == Source("voc", str(tmp_path / "voc"))  # there are no lists
    lists = tmp_path / "voc" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("train", "val", "trainval"):
        (lists / f"{split}.txt").write_text("a\n")
    assert find_source(tmp_path / "voc").split == "trainval"
    assert count(find_source(tmp_path / "voc", split="val")) == 1
    draw(tmp_path / "yolo" / "images" / "a.jpg")
    (tmp_path / "yolo" / "images" / "a.txt").write_text("")
    (tmp_path / "yolo" / "labels").mkdir()
    (tmp_path / "yolo" / "labels" / "a.txt").write_text("")
    (tmp_path / "yolo" / "data.yaml").write_text("train: images\nnames: [x]")
    source = find_source(tmp_path / "yolo")
    assert source == Source("yolo", str(tmp_path / "yolo" / "data.yaml"), split="train") and count(source) == 1
    assert find_source(tmp_path / "yolo" / "data.yaml") == source


def test_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "instances.txt").touch()
    with pytest.raises(DatasetError, match=r"there is no '.*instance\.txt'; did you mean 'instances\.txt'"):
        find_source(tmp_path / "instance.txt")
    with pytest.raises(DatasetError, match="is no dataset: give a .json, a data.yaml, or a folder"):
        find_source(tmp_path / "instances.txt")
    with pytest.raises(DatasetError, match="holds no dataset of a known format"):
        find_source(tmp_path)
    with pytest.raises(DatasetError, match="the format 'coko' is unknown; did you mean 'coco'"):
        find_source(tmp_path, format="coko")
    with pytest.raises(DatasetError, match="there is no data.yaml in"):
        find_source(tmp_path, format="yolo")
    with pytest.raises(DatasetError, match="holds 0 annotation files"):
        find_source(tmp_path, format="coco")
    for text, why in (
        ("", "is empty"),
        ("[]", "holds a JSON list"),
        ('{"shapes": []}', "the section 'images' is missing"),
    ):
        (tmp_path / "odd.json").write_text(text)
        report = DefectReport("odd.json")
        assert read_source(find_source(tmp_path / "odd.json"), report) is None and why in report.to_text()


@pytest.mark.parametrize(
    ("name", "split"),
    [("instances_val2017.json", "val"), ("test-dev.json", "test"), ("x.json", "train"), ("interval.json", "train")],
)
def test_names_of_splits(name: str, split: str) -> None:
    assert Source("coco", name).split_name == split
    assert Source("coco", name, split="own").split_name == "own"


def test_folders_of_splits(tmp_path: Path, draw: Draw) -> None:
    for split in ("train", "valid"):
        draw(tmp_path / "voc" / split / "a.jpg")
        (tmp_path / "voc" / split / "a.xml").write_text("<annotation/>")
        draw(tmp_path / "coco" / split / "a.jpg")
        (tmp_path / "coco" / split / "_annotations.coco.json").write_text('{"images": [{"file_name": "a.jpg"}]}')
        draw(tmp_path / "classes" / split / "cat" / "a.jpg")
        draw(tmp_path / "seg" / "images" / split / "a.jpg")
        write_label_map(draw(tmp_path / "seg" / "masks" / split / "a_mask.png"), np.zeros((10, 20), np.uint8))
    for kind in ("voc", "coco", "classes", "seg"):
        for split, name in (("val", "valid"), ("valid", "valid"), (None, "train")):
            source = find_source(tmp_path / kind, split=split)
            assert f"/{name}" in source.path and source.split_name in (split, "val" if split else "train")
            if kind in ("coco", "seg"):
                assert Path(source.images).name == name
            if kind != "coco":
                assert count(source) == 1
    assert find_source(tmp_path / "coco" / "valid").split_name == "val"
    assert find_source(tmp_path / "voc" / "valid").split_name == "val"


def test_names_that_lead_nowhere_are_told(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "images" / "a.jpg")
    for name in ("/data/upload/1/a.jpg", r"C:\data\a.jpg", "s3://bucket/a.jpg"):
        (tmp_path / "a.json").write_text(json.dumps({"images": [{"file_name": name}]}))
        assert find_source(tmp_path / "a.json").images == str(tmp_path / "images")
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"file_name": "b.jpg"}]}))
    with pytest.raises(DatasetError, match=r"images of '.*a\.json' \(the first one is 'b\.jpg'\) is not found near it"):
        find_source(tmp_path / "a.json")
