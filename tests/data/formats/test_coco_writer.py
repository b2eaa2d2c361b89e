from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.data.formats.coco import load_coco_json, read_coco
from drivetrain.data.formats.coco_writer import write_coco
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.writing import Losses
from drivetrain.structures import BoxMode


def written(folder: Path, split: str = "train") -> Any:
    return json.loads((folder / f"instances_{split}.json").read_text())


def without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k != key}


def test_a_coco_file_comes_back(shapes_read: ReadDataset, tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    assert write_coco(out, {"train": shapes_read}, "copy") == Losses()
    again = load_coco_json(out / "instances_train.json", out / "images" / "train")
    originals = shapes_read.records
    assert [r["annotations"] for r in again] == [[without(a, "entry") for a in r["annotations"]] for r in originals]
    assert [r["image_id"] for r in again] == [r["image_id"] for r in originals]
    for copy, original in zip(again, originals, strict=True):
        assert Path(copy["file_name"]).read_bytes() == Path(original["file_name"]).read_bytes()
    assert written(out)["categories"][0]["keypoint_flip_map"] == [["left", "right"]]


def test_all_that_a_coco_file_says_is_written_again(shapes_read: ReadDataset, tmp_path: Path) -> None:
    original = {**shapes_read.sections, "info": {"year": 2031}, "licenses": [{"id": 4}], "own": {"a": [1]}}
    shapes_read.sections = original
    first = shapes_read.records[0]
    first["entry"] |= {"license": 4, "date_captured": "2031-01-01", "own": None}
    annotation = first["annotations"][0]
    annotation["entry"] |= {"id": 901, "area": 3.25, "own": {"x": "y"}, "attributes": {"occluded": True}}
    write_coco(tmp_path, {"train": shapes_read}, "none")
    content = written(tmp_path)
    assert {k: v for k, v in content.items() if k not in ("images", "annotations")} == original
    assert content["categories"][0]["skeleton"] and content["categories"][0]["supercategory"]
    assert content["images"] == [r["entry"] for r in shapes_read.records]
    assert content["annotations"] == [a["entry"] for r in shapes_read.records for a in r["annotations"]]


def test_corrected_values_are_written_and_missing_ones_filled_in(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    square, thin = [1, 1, 5, 1, 5, 5, 1, 5], [1, 1, 5, 1]
    annotations = [
        {"bbox": [-4, 0, 10, 4], "area": 40, "segmentation": [], "note": "over the edge"},
        {"bbox": [1, 1, 4, 4], "segmentation": [square, thin], "iscrowd": None, "area": None, "own": None},
    ]
    places = [{"id": i + 7, "image_id": 1, "category_id": 3, **a} for i, a in enumerate(annotations)]
    images = [{"id": 1, "file_name": "a.jpg", "width": 20.0, "height": 10}]
    content = {"images": images, "annotations": places, "categories": [{"id": 3, "name": "x"}]}
    (tmp_path / "in.json").write_text(json.dumps(content))
    read = read_coco(tmp_path / "in.json", tmp_path, DefectReport("in.json"))
    assert read is not None
    (out := tmp_path / "out").mkdir()
    write_coco(out, {"train": read}, "none")
    first, second = written(out)["annotations"]
    assert first == {**places[0], "bbox": [0, 0, 6, 4], "iscrowd": 0}
    assert second == {**places[1], "segmentation": [square], "iscrowd": 0, "area": 16}


def test_the_coco_tools_read_it(shapes_read: ReadDataset, tmp_path: Path) -> None:
    tools = pytest.importorskip("pycocotools.coco")
    write_coco(tmp_path, {"train": shapes_read}, "none")
    coco = tools.COCO(str(tmp_path / "instances_train.json"))
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert coco.annToMask(annotation).sum() == annotation["area"]


def test_without_images_the_names_are_those_inside_the_root(shapes_read: ReadDataset, tmp_path: Path) -> None:
    shapes_read.image_root = str(Path(shapes_read.image_root).parent)
    write_coco(tmp_path, {"val": shapes_read}, "none")
    assert [i["file_name"] for i in written(tmp_path, "val")["images"]] == [f"train/{i:06d}.jpg" for i in range(3)]
    assert not (tmp_path / "images").exists()
    assert load_coco_json(tmp_path / "instances_val.json", shapes_read.image_root)


def test_ids_areas_and_other_keys(tmp_path: Path) -> None:
    records = [
        {
            "file_name": f"r/{name}.jpg",
            "image_id": name,
            "height": 10,
            "width": 10,
            "annotations": [
                {"category_id": 1, "bbox": [1, 2, 4.5, 5], "bbox_mode": BoxMode.XYXY_ABS, "difficult": 1},
                {
                    "category_id": 0,
                    "bbox": [1, 1, 3, 3],
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "iscrowd": 1,
                    "segmentation": [[1, 1, 4, 1, 4, 4, 1, 4]],
                    "keypoints": [1.5, 2.5, 2, 0.5, 0.5, 0],
                },
            ],
        }
        for name in ("b", "a")
    ]
    metadata = {"thing_classes": ["x", "y"], "thing_dataset_id_to_contiguous_id": {7: 1, 3: 0}}
    write_coco(tmp_path, {"train": ReadDataset(records, "r", metadata)}, "none")
    content = written(tmp_path)
    assert content["categories"] == [{"id": 3, "name": "x"}, {"id": 7, "name": "y"}]
    assert [i["id"] for i in content["images"]] == [1, 2]
    first, second = content["annotations"][:2]
    assert first == {
        "id": 1,
        "image_id": 1,
        "category_id": 7,
        "bbox": [1, 2, 3.5, 3],
        "iscrowd": 0,
        "area": 10.5,
        "difficult": 1,
    }
    assert (second["area"], second["iscrowd"], second["num_keypoints"]) == (9, 1, 1)
    assert second["keypoints"] == [1, 2, 2, 0, 0, 0]


def test_panoptic_things_have_the_pixels_of_their_segments(panoptic_read: ReadDataset, tmp_path: Path) -> None:
    losses = write_coco(tmp_path, {"train": panoptic_read}, "none")
    assert losses == {"segments of stuff": 3}
    for record in load_coco_json(tmp_path / "instances_train.json", panoptic_read.image_root):
        for annotation in record["annotations"]:
            assert (
                isinstance(annotation["segmentation"], dict) and np.prod(annotation["bbox"][2:]) >= annotation["area"]
            )
