from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.coco_panoptic import (
    check_panoptic_maps,
    load_coco_panoptic_json,
    read_coco_panoptic,
    register_coco_panoptic,
)
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.label_maps import write_panoptic_map
from drivetrain.data.records import stored
from drivetrain.errors import DatasetError

Draw = Callable[..., Path]
Change = Callable[[dict[str, Any]], None]


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "width": 20, "height": 10},
            {"id": 4, "file_name": "a.jpg", "width": 20, "height": 10},
        ],
        "annotations": [
            {
                "image_id": 9,
                "file_name": "b.png",
                "segments_info": [
                    {"id": 70_000, "category_id": 7, "iscrowd": 0, "bbox": [0, 0, 10, 10], "area": 100},
                    {"id": 3, "category_id": 92, "iscrowd": 0, "bbox": [10, 0, 10, 10], "area": 100},
                ],
            },
            {"image_id": 4, "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 3, "iscrowd": 1}]},
        ],
        "categories": [
            {"id": 92, "name": "sky", "isthing": 0},
            {"id": 7, "name": "dog", "isthing": 1},
            {"id": 3, "name": "cat", "isthing": 1},
        ],
    }


@pytest.fixture
def write(tmp_path: Path, draw: Draw) -> Callable[[Change | None], tuple[Path, Path, Path]]:
    """Writes the dataset, changed, and gives its annotation file, images and PNGs."""

    def make(change: Change | None = None) -> tuple[Path, Path, Path]:
        for name in ("a", "b"):
            draw(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "maps").mkdir(exist_ok=True)
        halves = np.repeat([[70_000] * 10 + [3] * 10], 10, axis=0)
        write_panoptic_map(tmp_path / "maps" / "b.png", halves)
        write_panoptic_map(tmp_path / "maps" / "a.png", np.where(np.arange(20) < 5, 1, 0) * np.ones((10, 1), int))
        data = content()
        if change is not None:
            change(data)
        (tmp_path / "panoptic.json").write_text(json.dumps(data))
        return tmp_path / "panoptic.json", tmp_path / "images", tmp_path / "maps"

    return make


Write = Callable[..., tuple[Path, Path, Path]]


def test_records_with_classes_counted_over_all_categories(write: Write, tmp_path: Path) -> None:
    records = load_coco_panoptic_json(*write())
    assert records == [
        {
            "file_name": str(tmp_path / "images" / "a.jpg"),
            "pan_seg_file_name": str(tmp_path / "maps" / "a.png"),
            "image_id": 4,
            "height": 10,
            "width": 20,
            "segments_info": [{"id": 1, "category_id": 0, "isthing": True, "iscrowd": 1}],
        },
        {
            "file_name": str(tmp_path / "images" / "b.jpg"),
            "pan_seg_file_name": str(tmp_path / "maps" / "b.png"),
            "image_id": 9,
            "height": 10,
            "width": 20,
            "segments_info": [
                {"id": 70_000, "category_id": 1, "isthing": True, "iscrowd": 0, "bbox": [0, 0, 10, 10], "area": 100},
                {"id": 3, "category_id": 2, "isthing": False, "iscrowd": 0, "bbox": [10, 0, 10, 10], "area": 100},
            ],
        },
    ]
    assert list(stored(records)) == records


def test_registered_datasets(write: Write) -> None:
    json_file, images, maps = write()
    register_coco_panoptic("pan_x", {"colour": 1}, images, maps, json_file, "instances.json")
    metadata = MetadataCatalog.get("pan_x")
    assert (metadata.panoptic_root, metadata.panoptic_json, metadata.image_root, metadata.json_file) == (
        str(maps),
        str(json_file),
        str(images),
        "instances.json",
    )
    assert metadata.evaluator_type == "coco_panoptic_seg" and metadata.ignore_label == 255 and metadata.colour == 1
    assert len(DatasetCatalog.get("pan_x")) == 2
    assert metadata.thing_classes == metadata.stuff_classes == ["cat", "dog", "sky"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert metadata.stuff_dataset_id_to_contiguous_id == {92: 2}
    with pytest.raises(DatasetError, match="panoptic_root of dataset 'pan_y' must be a path"):
        register_coco_panoptic("pan_y", {}, images, None, json_file)  # type: ignore[arg-type]


def test_classes_given_by_the_metadata(write: Write) -> None:
    json_file, images, maps = write()
    given = {
        "thing_classes": ["dog", "cat"],
        "thing_dataset_id_to_contiguous_id": {7: 0, 3: 1},
        "stuff_dataset_id_to_contiguous_id": {92: 5},
    }
    register_coco_panoptic("pan_x", given, images, maps, json_file)
    records = DatasetCatalog.get("pan_x")
    assert [[s["category_id"] for s in r["segments_info"]] for r in records] == [[1], [0, 5]]
    assert MetadataCatalog.get("pan_x").thing_classes == ["dog", "cat"]


def first(data: dict[str, Any]) -> dict[str, Any]:
    segment: dict[str, Any] = data["annotations"][0]["segments_info"][0]
    return segment


@pytest.mark.parametrize(
    ("change", "kind", "why"),
    [
        (lambda d: d["categories"][0].pop("isthing"), "incomplete category", "has isthing None; it is 1 for things"),
        (lambda d: d["categories"].append({"id": 1, "name": "sky", "isthing": 0}), "duplicate category name", "'sky'"),
        (lambda d: d["annotations"][0].update(image_id=5), "unknown image", "is of image 5, which the file does not"),
        (lambda d: d["annotations"][1].update(image_id=9), "duplicate annotation", "of image 9, which has one already"),
        (lambda d: d["annotations"][0].update(file_name="../b.png"), "unsafe file name", "climbs out of the folder"),
        (lambda d: d["annotations"][0].update(file_name="c.png"), "missing label map", "'c.png'"),
        (lambda d: d["annotations"][0].pop("file_name"), "missing label map", "is no file name"),
        (lambda d: d["annotations"][0].pop("segments_info"), "malformed segments", "has no list 'segments_info'"),
        (lambda d: first(d).update(id=0), "malformed segments", "has a segment with the id 0; ids are 1 to 16777215"),
        (lambda d: first(d).update(id=3), "malformed segments", "has two segments with the id 3"),
        (lambda d: first(d).update(category_id=8), "malformed segments", "segment 70000 with category_id 8"),
        (lambda d: first(d).update(iscrowd=2), "malformed segments", "iscrowd 2"),
        (lambda d: first(d).update(bbox=[1, 2]), "malformed segments", "the box [1, 2]; a box is 4 numbers"),
        (lambda d: first(d).update(area="big"), "malformed segments", "the area 'big'"),
        (lambda d: d["images"][0].update(file_name="none.jpg"), "missing image", "'none.jpg'"),
        (lambda d: d["images"][0].pop("width"), "incomplete image entry", "no 'width'"),
        (lambda d: d.pop("categories"), "missing section", "'categories' is missing"),
    ],
)
def test_each_defect(write: Write, change: Change, kind: str, why: str) -> None:
    json_file, images, maps = write(change)
    report = DefectReport("x")
    read_coco_panoptic(json_file, images, maps, report)
    assert report.counts[kind] == 1 and report.has_errors and why in report.to_text()
    with pytest.raises(DatasetError):
        load_coco_panoptic_json(json_file, images, maps)


def test_an_image_without_annotation_is_left_out(write: Write) -> None:
    json_file, images, maps = write(lambda d: d["annotations"].pop())
    report = DefectReport("x")
    read = read_coco_panoptic(json_file, images, maps, report)
    assert read is not None and [r["image_id"] for r in read.records] == [9]
    assert report.counts == {"image without annotation": 1} and not report.has_errors


def test_pixels_are_compared_with_the_segments(write: Write) -> None:
    def change(data: dict[str, Any]) -> None:
        first(data)["id"] = 70_001
        data["images"][1]["width"] = 30

    json_file, images, maps = write(change)
    with pytest.raises(DatasetError, match="has 2 errors") as error:
        load_coco_panoptic_json(json_file, images, maps)
    assert "b.png' has pixels of segment 70000, not in 'segments_info'" in str(error.value)
    assert "a.png' has 20 x 10 pixels (width x height), but its image has 30 x 10" in str(error.value)
    report = DefectReport("x")
    read = read_coco_panoptic(json_file, images, maps, report)
    assert read is not None
    check_panoptic_maps(read.records, report, 9)
    assert report.counts["segment without pixels"] == 1
    (maps / "b.png").write_text("no image")
    check_panoptic_maps(read.records, report, 9)
    assert report.counts["unreadable label map"] == 1


def test_a_folder_of_pngs_that_is_missing(write: Write, tmp_path: Path) -> None:
    json_file, images, _ = write()
    with pytest.raises(DatasetError, match="the folder of the PNGs .* does not exist"):
        load_coco_panoptic_json(json_file, images, tmp_path / "none")
