from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drivetrain.data.formats.coco_panoptic import load_coco_panoptic_json
from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.label_maps import read_label_map, read_panoptic_map, write_label_map
from drivetrain.data.formats.map_writers import write_coco_panoptic, write_sem_seg
from drivetrain.data.formats.sem_seg import load_sem_seg
from drivetrain.errors import DatasetError
from drivetrain.structures import bitmask_to_rle, polygons_to_bitmask

LARGE, SMALL = [0, 0, 8, 0, 8, 8, 0, 8], [2, 2, 4, 2, 4, 4, 2, 4]


def overlapping() -> ReadDataset:
    """A small object that lies on a large one but comes before it, a crowd, a hidden object, and one without a mask."""
    crowd = np.zeros((10, 10), dtype=bool)
    crowd[9] = True
    annotations = [
        {"category_id": 0, "bbox": [2, 2, 2, 2], "segmentation": [SMALL]},
        {"category_id": 1, "bbox": [0, 0, 8, 8], "segmentation": [LARGE]},
        {"category_id": 1, "bbox": [0, 9, 9, 1], "segmentation": bitmask_to_rle(crowd), "iscrowd": 1},
        {"category_id": 1, "bbox": [2, 2, 2, 2], "segmentation": [SMALL]},
        {"category_id": 1, "bbox": [0, 0, 1, 1]},
    ]
    record = {"file_name": "r/a.jpg", "image_id": 5, "height": 10, "width": 10, "annotations": annotations}
    return ReadDataset([record], "r", {"thing_classes": ["cat", "dog"]})


def test_label_maps_painted_from_masks(tmp_path: Path) -> None:
    losses = write_sem_seg(tmp_path, {"train": overlapping()}, "none")
    assert +losses == {"objects without a mask (left out)": 1}
    expected = np.zeros((10, 10), dtype=np.uint8)
    expected[:8, :8], expected[2:4, 2:4], expected[9] = 2, 2, 255  # of two of the same size, the later one lies on top
    assert np.array_equal(read_label_map(tmp_path / "labels" / "train" / "a.png"), expected)
    assert (tmp_path / "classes.txt").read_text() == "background\ncat\ndog\n"


def test_segments_made_of_masks(tmp_path: Path) -> None:
    losses = write_coco_panoptic(tmp_path, {"train": overlapping()}, "none")
    assert +losses == {"objects without a mask (left out)": 1, "objects hidden by others (left out)": 1}
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "a.jpg").touch()
    (record,) = load_coco_panoptic_json(tmp_path / "panoptic_train.json", tmp_path / "r", tmp_path / "panoptic_train")
    ids = read_panoptic_map(record["pan_seg_file_name"])
    told = {(s["category_id"], s["iscrowd"], s["area"], tuple(s["bbox"])) for s in record["segments_info"]}
    assert told == {(1, 0, 60, (0, 0, 8, 8)), (1, 1, 10, (0, 9, 10, 1)), (1, 0, 4, (2, 2, 2, 2))}
    assert (ids == 0).sum() == 100 - 60 - 10 - 4 and all(s["isthing"] for s in record["segments_info"])


def test_label_maps_of_objects_have_their_pixels(shapes_read: ReadDataset, tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    write_sem_seg(out, {"val": shapes_read}, "copy")
    maps = load_sem_seg(out / "labels" / "val", out / "images" / "val")
    for made, record in zip(maps, shapes_read.records, strict=True):
        expected = np.zeros((48, 64), dtype=np.uint8)
        for annotation in record["annotations"]:
            expected[polygons_to_bitmask(annotation["segmentation"], 48, 64)] = annotation["category_id"] + 1
        assert np.array_equal(read_label_map(made["sem_seg_file_name"]), expected)


def test_panoptic_data_as_label_maps_and_as_itself(panoptic_read: ReadDataset, tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    losses = write_sem_seg(out, {"train": panoptic_read}, "copy")
    assert losses["segments' identities"] == sum(len(r["segments_info"]) for r in panoptic_read.records)
    assert (out / "classes.txt").read_text().split() == ["circle", "square", "triangle", "background"]
    for made, record in zip(
        load_sem_seg(out / "labels/train", out / "images/train"), panoptic_read.records, strict=True
    ):
        ids, labels = read_panoptic_map(record["pan_seg_file_name"]), read_label_map(made["sem_seg_file_name"])
        for segment in record["segments_info"]:
            assert (labels[ids == segment["id"]] == segment["category_id"]).all()
    (again := tmp_path / "again").mkdir()
    assert not +write_coco_panoptic(again, {"train": panoptic_read}, "copy")
    parts = again / "panoptic_train.json", again / "images" / "train", again / "panoptic_train"
    for made, record in zip(load_coco_panoptic_json(*parts), panoptic_read.records, strict=True):
        assert made["segments_info"] == [{k: v for k, v in s.items() if k != "entry"} for s in record["segments_info"]]
        maps = [read_panoptic_map(r["pan_seg_file_name"]) for r in (made, record)]
        assert np.array_equal(*maps)


def test_all_that_a_panoptic_file_says_is_written_again(panoptic_read: ReadDataset, tmp_path: Path) -> None:
    panoptic_read.sections |= {"info": {"year": 2031}, "own": [1]}
    for category in panoptic_read.sections["categories"]:
        category |= {"supercategory": "s", "color": [1, 2, 3]}
    first = panoptic_read.records[0]
    first["entry"]["license"] = 4
    first["map_entry"]["annotator"] = "x"
    first["segments_info"][0]["entry"]["score"] = 0.5
    write_coco_panoptic(tmp_path, {"val": panoptic_read}, "none")
    content = json.loads((tmp_path / "panoptic_val.json").read_text())
    assert {k: v for k, v in content.items() if k not in ("images", "annotations")} == panoptic_read.sections
    assert content["images"] == [r["entry"] for r in panoptic_read.records]
    assert content["annotations"] == [r["map_entry"] for r in panoptic_read.records]


def test_objects_become_segments_of_their_own_categories(shapes_read: ReadDataset, tmp_path: Path) -> None:
    for category in shapes_read.sections["categories"]:
        category["id"] += 40
    shapes_read.metadata["thing_dataset_id_to_contiguous_id"] = {41 + i: i for i in range(3)}
    write_coco_panoptic(tmp_path, {"val": shapes_read}, "none")
    content = json.loads((tmp_path / "panoptic_val.json").read_text())
    assert content["categories"] == [{**c, "isthing": 1} for c in shapes_read.sections["categories"]]
    assert [i["id"] for i in content["images"]] == [r["image_id"] for r in shapes_read.records]
    told = [sorted(s["category_id"] for s in a["segments_info"]) for a in content["annotations"]]
    assert told == [sorted(a["category_id"] + 41 for a in r["annotations"]) for r in shapes_read.records]


def test_label_maps_are_copied_with_their_classes(tmp_path: Path) -> None:
    write_label_map(tmp_path / "m.png", labels := np.arange(100, dtype=np.uint8).reshape(10, 10))
    record = {"file_name": "r/a.jpg", "sem_seg_file_name": str(tmp_path / "m.png"), "height": 10, "width": 10}
    (out := tmp_path / "out").mkdir()
    write_sem_seg(out, {"train": ReadDataset([record], "r", {"stuff_classes": ["a", "b"]})}, "none")
    assert np.array_equal(read_label_map(out / "labels" / "train" / "a.png"), labels)
    assert (out / "classes.txt").read_text() == "a\nb\n"


@pytest.mark.parametrize("write", [write_sem_seg, write_coco_panoptic])
def test_boxes_alone_are_not_enough(tmp_path: Path, write: object) -> None:
    record = {
        "file_name": "r/a.jpg",
        "height": 9,
        "width": 9,
        "annotations": [{"category_id": 0, "bbox": [0, 0, 1, 1]}],
    }
    with pytest.raises(DatasetError, match="no object of 'r' has a mask, and label maps cannot be made of boxes"):
        write(tmp_path, {"train": ReadDataset([record], "r", {"thing_classes": ["a"]})}, "none")  # type: ignore[operator]


def test_more_classes_than_a_map_can_hold(shapes_read: ReadDataset, tmp_path: Path) -> None:
    shapes_read.metadata["thing_classes"] = [f"c{i}" for i in range(255)]
    with pytest.raises(DatasetError, match="255 classes do not fit into label maps of 8 bits"):
        write_sem_seg(tmp_path, {"train": shapes_read}, "none")
