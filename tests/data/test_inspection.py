from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.sources import find_source, read_source
from drivetrain.data.formats.synthetic import (
    make_synthetic_classification,
    make_synthetic_panoptic,
    make_synthetic_segmentation,
)
from drivetrain.data.inspection import (
    QUANTILES,
    ClassRow,
    check_image_files,
    duplicate_images,
    inspect_dataset,
)
from drivetrain.structures import BoxMode


def read(path: str | Path) -> ReadDataset:
    report = DefectReport(str(path))
    found = read_source(find_source(path), report)
    assert found is not None and not report
    return found


def record(name: str, *annotations: dict[str, Any], width: int = 100, height: int = 50) -> dict[str, Any]:
    return {"file_name": name, "width": width, "height": height, "annotations": list(annotations)}


def box(label: int, *numbers: float, **more: Any) -> dict[str, Any]:
    return {"category_id": label, "bbox": list(numbers), "bbox_mode": BoxMode.XYWH_ABS, **more}


def test_objects_are_counted_and_measured() -> None:
    records = [
        record("a.jpg", box(0, 0, 0, 20, 10), box(0, 0, 0, 20, 10), box(2, 5, 5, 40, 40, segmentation=[[1] * 6])),
        record("b.jpg", box(2, 0, 0, 100, 100, iscrowd=1, keypoints=[1, 2, 2]), width=200, height=100),
        record("c.jpg"),
        record("d.jpg", box(0, 0, 0, 10, 20, keypoints=[1, 2, 0])),
    ]
    corners = {**box(0, 3, 4, 13, 24), "bbox_mode": BoxMode.XYXY_ABS}
    records[3]["annotations"].append(corners)
    found = inspect_dataset(ReadDataset(records, "", {"thing_classes": ["cat", "owl", "dog"]}))
    assert (found.images, found.objects, found.crowds, found.masks, found.keypoints) == (4, 6, 1, 1, 1)
    assert found.classes == [ClassRow("cat", 4, 2, 4 / 6), ClassRow("owl", 0, 0, 0.0), ClassRow("dog", 2, 2, 2 / 6)]
    assert found.image_sizes == [((100, 50), 3), ((200, 100), 1)] and found.more_sizes == 0
    assert (found.empty, found.empty_examples, found.repeated_objects) == (1, ["c.jpg"], 1)
    assert found.box_scales == {"small": 4, "medium": 1, "large": 1}
    sides = np.sqrt([200, 200, 1600, 10_000, 200, 200])
    assert found.box_sides == pytest.approx(np.quantile(sides, QUANTILES))
    assert found.box_shares == pytest.approx(np.quantile([0.04, 0.04, 0.32, 0.5, 0.04, 0.04], QUANTILES))
    assert found.aspect_ratios == pytest.approx(np.quantile([2, 2, 1, 1, 0.5, 0.5], QUANTILES))
    assert json.loads(json.dumps(found.as_dict()))["classes"][0]["objects"] == 4


def test_objects_are_repeated_by_class_and_box_within_an_image() -> None:
    records = [
        record("a.jpg", box(0, 1, 2, 3, 4), box(1, 1, 2, 3, 4), box(0, 1, 2, 3, 5)),
        record("b.jpg", box(0, 1, 2, 3, 4), {**box(0, 1, 2, 4, 6), "bbox_mode": BoxMode.XYXY_ABS}, box(0, 1, 2, 3, 4)),
    ]
    assert inspect_dataset(ReadDataset(records, "")).repeated_objects == 2


def test_pixels_of_the_ignored_label_do_not_count(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 0, 1, 255], [255] * 4], dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((2, 4), 255, dtype=np.uint8)).save(tmp_path / "b.png")
    records = [
        {"file_name": n, "sem_seg_file_name": str(tmp_path / f"{n}.png"), "width": 4, "height": 2} for n in ("a", "b")
    ]
    found = inspect_dataset(ReadDataset(records, "", {"stuff_classes": ["x", "y"], "ignore_label": 255}))
    assert found.classes == [ClassRow("x", 0, 1, pytest.approx(2 / 3)), ClassRow("y", 0, 1, pytest.approx(1 / 3))]
    assert (found.empty, found.empty_examples) == (1, ["b"])


def test_a_set_without_objects_or_names() -> None:
    found = inspect_dataset(ReadDataset([record("a.jpg")], ""))
    assert (found.images, found.objects, found.empty, found.classes, found.box_sides) == (1, 0, 1, [], [])
    found = inspect_dataset(ReadDataset([record("a.jpg", box(5000, 0, 0, 1, 1))], ""))
    assert found.classes == [ClassRow("class 5000", 1, 1, 1.0)]
    assert inspect_dataset(ReadDataset([], "")).images == 0


def test_pixels_of_label_maps(tmp_path: Path) -> None:
    made = make_synthetic_segmentation(tmp_path, train=4, val=1, size=(40, 32))
    dataset = read(tmp_path)
    found = inspect_dataset(dataset)
    maps = np.stack([np.asarray(Image.open(p)) for p in sorted(Path(made.train_labels).iterdir())])
    for label, row in enumerate(found.classes):
        assert row == ClassRow(
            made.class_names[label],
            0,
            int((maps == label).any(axis=(1, 2)).sum()),
            pytest.approx((maps == label).mean()),
        )
    assert (found.images, found.objects, found.label_maps) == (4, 0, 4)
    assert inspect_dataset(dataset, most_maps=2).label_maps == 2


def test_segments_and_classes_of_images(tmp_path: Path) -> None:
    made = make_synthetic_panoptic(tmp_path / "pan", train=3, val=1, size=(40, 32))
    found = inspect_dataset(read(made.train_json))
    segments = [s for a in json.loads(Path(made.train_json).read_text())["annotations"] for s in a["segments_info"]]
    assert found.objects == found.masks == len(segments)
    assert found.classes[3] == ClassRow("background", 3, 3, pytest.approx(3 / len(segments)))
    sorted_images = make_synthetic_classification(tmp_path / "cls", train=5, val=1, size=(32, 32))
    found = inspect_dataset(read(sorted_images.train))
    assert sum(row.images for row in found.classes) == 5 and found.objects == 0 and found.empty == 0


def test_equal_files_are_found(tmp_path: Path) -> None:
    for name, content in (("a", b"12"), ("b", b"34"), ("c", b"12"), ("d", b"123"), ("e", b"12")):
        (tmp_path / name).write_bytes(content)
    records = [{"file_name": str(tmp_path / name)} for name in "abcdef"]
    paths = [str(tmp_path / name) for name in "ace"]
    assert duplicate_images(records) == [paths] and duplicate_images(records + records) == [paths]
    assert duplicate_images(records[:2]) == []


def test_sizes_of_image_files_are_compared(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("no image")
    records = [record(str(tmp_path / n), width=20, height=10) for n in ("a.jpg", "b.jpg", "c.jpg")]
    report = DefectReport("x")
    check_image_files(records[:1], report)
    assert not report
    check_image_files([{**records[0], "width": 10, "height": 20}, *records[1:]], report)
    assert report.counts == {"size of image": 1, "unreadable image": 2}
    assert "a.jpg' has 20 x 10 pixels, but the dataset says 10 x 20" in report.to_text()


def test_the_blood_cells(bccd: Path, tmp_path: Path) -> None:
    found = inspect_dataset(dataset := read(bccd / "instances_val.json"))
    content = json.loads((bccd / "instances_val.json").read_text())
    assert found.images == len(content["images"]) and found.objects == len(content["annotations"])
    by_name = {
        c["name"]: sum(a["category_id"] == c["id"] for a in content["annotations"]) for c in content["categories"]
    }
    assert {row.name: row.objects for row in found.classes} == by_name
    assert found.image_sizes == [((640, 480), len(content["images"]))]
    copy = tmp_path / "copy.jpg"
    shutil.copy(dataset.records[3]["file_name"], copy)
    assert duplicate_images([*dataset.records, {"file_name": str(copy)}]) == [
        [dataset.records[3]["file_name"], str(copy)]
    ]
