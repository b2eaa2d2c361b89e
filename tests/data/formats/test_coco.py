from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.coco import inspect_coco, load_coco_json, register_coco_instances
from drivetrain.errors import DatasetError
from drivetrain.structures import BoxMode

NAME = "coco_test"


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for catalog in (DatasetCatalog, MetadataCatalog):
        if NAME in catalog:
            catalog.remove(NAME)


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "width": 60, "height": 40},
            {"id": 4, "file_name": "sub/a.jpg", "width": 20, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 11, "iscrowd": 0, "score": 0.5},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 60, 40], "segmentation": [[0, 0, 60, 0, 60, 40]]},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def write(folder: Path, data: dict[str, Any]) -> Path:
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("b.jpg", "sub/a.jpg"):
        (folder / name).touch()
    path = folder / "a.json"
    path.write_text(json.dumps(data))
    return path


def test_records_are_in_order_of_image_id_with_contiguous_classes(tmp_path: Path) -> None:
    records = load_coco_json(write(tmp_path, content()), tmp_path)
    assert records == [
        {"file_name": str(tmp_path / "sub/a.jpg"), "image_id": 4, "height": 30, "width": 20, "annotations": []},
        {
            "file_name": str(tmp_path / "b.jpg"),
            "image_id": 9,
            "height": 40,
            "width": 60,
            "annotations": [
                {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 0, "area": 11},
                {
                    "bbox": [0, 0, 60, 40],
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "category_id": 0,
                    "iscrowd": 0,
                    "segmentation": [[0, 0, 60, 0, 60, 40]],
                },
            ],
        },
    ]


def test_metadata_is_filled_when_loaded_and_not_before(tmp_path: Path) -> None:
    register_coco_instances(NAME, {"colors": [1]}, tmp_path / "a.json", tmp_path)
    metadata = MetadataCatalog.get(NAME)
    assert metadata.evaluator_type == "coco" and metadata.json_file == str(tmp_path / "a.json")
    assert metadata.image_root == str(tmp_path) and metadata.colors == [1]
    assert metadata.get("thing_classes") is None
    write(tmp_path, content())
    assert len(DatasetCatalog.get(NAME)) == 2
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert len(DatasetCatalog.get(NAME)) == 2  # a second time


def test_given_class_names_must_be_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    register_coco_instances(NAME, {"thing_classes": ["dog", "cat"]}, path, tmp_path)
    with pytest.raises(DatasetError, match=r"\['dog', 'cat'\].*\['cat', 'dog'\]"):
        DatasetCatalog.get(NAME)


def test_registering_twice_or_wrongly_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"json_file .* must be a path, not 5"):
        register_coco_instances(NAME, {}, 5, tmp_path)
    with pytest.raises(DatasetError, match="must be a mapping"):
        register_coco_instances(NAME, None, "a.json", tmp_path)
    MetadataCatalog.get(NAME).json_file = "another.json"
    with pytest.raises(DatasetError, match="already 'another"):
        register_coco_instances(NAME, {}, "a.json", tmp_path)
    assert NAME not in DatasetCatalog


def test_the_registered_function_can_be_sent_to_another_process(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    register_coco_instances(NAME, {}, path, tmp_path)
    function = pickle.loads(pickle.dumps(DatasetCatalog.pop(NAME)))
    assert len(function()) == 2


def test_extra_keys_are_copied(tmp_path: Path) -> None:
    records = load_coco_json(write(tmp_path, content()), tmp_path, extra_annotation_keys=["score", "bbox"])
    first, second = records[1]["annotations"]
    assert first["score"] == 0.5 and first["bbox"] == [1, 2, 3, 4] and "score" not in second


def test_boxes_are_cut_and_useless_ones_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = content()
    boxes = [
        [-5, -5, 20, 20],
        [50, 30, 20, 20],
        [70, 0, 5, 5],
        [1, 1, 0, 5],
        [1, 1, float("nan"), 5],
        [10, 10, 50.4, 5],
    ]
    data["annotations"] = [{"id": i, "image_id": 9, "category_id": 3, "bbox": b} for i, b in enumerate(boxes)]
    with caplog.at_level(logging.WARNING):
        records = load_coco_json(write(tmp_path, data), tmp_path)
    kept = [a["bbox"] for a in records[1]["annotations"]]
    assert kept == [[0, 0, 15, 15], [50, 30, 10, 10], [10, 10, 50, 5]]
    assert len(caplog.records) == 1 and "3 annotations left out, 2 corrected" in caplog.text
    report = inspect_coco(tmp_path / "a.json", tmp_path)
    assert report.counts == {"degenerate box": 2, "box outside the image": 1, "box over the edge": 2}


def test_keypoints_are_moved_to_pixel_centres_and_named(tmp_path: Path) -> None:
    data = content()
    data["categories"][0].update(keypoints=["left_eye", "right_eye"], keypoint_flip_map=[["left_eye", "right_eye"]])
    data["annotations"][0]["keypoints"] = [3, 4, 2, 0, 0, 0]
    records = load_coco_json(write(tmp_path, data), tmp_path, NAME)
    assert records[1]["annotations"][0]["keypoints"] == [3.5, 4.5, 2, 0.5, 0.5, 0]
    metadata = MetadataCatalog.get(NAME)
    assert metadata.keypoint_names == ["left_eye", "right_eye"]
    assert metadata.keypoint_flip_map == [("left_eye", "right_eye")]


def test_keypoints_that_change_places_are_told_from_their_names(tmp_path: Path) -> None:
    data = content()
    data["categories"][0].update(keypoints=["nose", "left_eye", "right_eye"])
    load_coco_json(write(tmp_path, data), tmp_path, NAME)
    assert MetadataCatalog.get(NAME).keypoint_flip_map == [("left_eye", "right_eye")]


def test_run_lengths_and_crowds_pass_through(tmp_path: Path) -> None:
    mask_tools = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((40, 60), dtype=np.uint8, order="F")
    mask[5:20, 7:30] = 1
    compressed = mask_tools.encode(mask)
    compressed["counts"] = compressed["counts"].decode()
    plain = {"size": [40, 60], "counts": [40 * 7 + 5, *[15, 25] * 22, 15, 40 * 30 + 20]}
    data = content()
    for entry, rle in zip(data["annotations"], (compressed, plain), strict=True):
        entry.update(segmentation=rle, iscrowd=1)
    records = load_coco_json(write(tmp_path, data), tmp_path)
    for annotation in records[1]["annotations"]:
        rle = annotation["segmentation"]
        packed = rle if isinstance(rle["counts"], str) else mask_tools.frPyObjects(rle, *rle["size"])
        assert mask_tools.area(packed) == 15 * 23 and annotation["iscrowd"] == 1


def test_invalid_polygons_are_taken_out(tmp_path: Path) -> None:
    data = content()
    good = [0, 0, 9, 0, 9, 9]
    data["annotations"][0]["segmentation"] = [good, [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, "x"]]
    data["annotations"][1]["segmentation"] = [[1, 2, 3, 4, 5, float("nan")]]
    records = load_coco_json(write(tmp_path, data), tmp_path)
    assert [a["segmentation"] for a in records[1]["annotations"]] == [[good]]
    assert inspect_coco(tmp_path / "a.json", tmp_path).counts == {"invalid polygon": 2}


def test_an_empty_segmentation_or_keypoints_is_none(tmp_path: Path) -> None:
    data = content()
    data["annotations"][0].update(segmentation=[], keypoints=[])
    annotation = load_coco_json(write(tmp_path, data), tmp_path)[1]["annotations"][0]
    assert "segmentation" not in annotation and "keypoints" not in annotation


def test_an_empty_file_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DatasetError, match="the section 'images' is empty, so the dataset holds no image"):
        load_coco_json(write(tmp_path, {**content(), "images": [], "annotations": []}), tmp_path)
    with caplog.at_level(logging.WARNING):
        records = load_coco_json(write(tmp_path, {**content(), "annotations": []}), tmp_path)
    assert len(records) == 2 and "no usable annotation" in caplog.text


def test_all_errors_come_at_once(tmp_path: Path) -> None:
    data = content()
    data["images"].append({"id": 5, "file_name": "gone.jpg", "width": 5, "height": 5})
    data["images"].append({"id": 6, "width": 5})
    data["annotations"].append({"id": 2, "image_id": 77, "category_id": 3, "bbox": [1, 1, 1, 1]})
    data["annotations"].append({"id": 5, "image_id": 9, "category_id": 99, "bbox": [1, 1, 1, 1]})
    with pytest.raises(DatasetError) as caught:
        load_coco_json(write(tmp_path, data), tmp_path)
    message = str(caught.value)
    for part in (
        "gone.jpg",
        "no 'file_name', no 'height'",
        "repeats the id 2",
        "of image 77",
        "category_id 99",
        "5 errors",
    ):
        assert part in message
    assert "(3 = 'cat', 7 = 'dog')" in message


def test_errors_are_told_by_example(tmp_path: Path) -> None:
    data = content()
    data["annotations"] = [{"id": i, "image_id": 9, "category_id": 99, "bbox": [1, 1, 1, 1]} for i in range(1000)]
    with pytest.raises(DatasetError) as caught:
        load_coco_json(write(tmp_path, data), tmp_path, max_examples=3)
    assert str(caught.value).count("category_id 99") == 3 and "and 997 more" in str(caught.value)


def test_missing_images_may_be_allowed(tmp_path: Path) -> None:
    data = content()
    data["images"][0]["file_name"] = "gone.jpg"
    path = write(tmp_path, data)
    with pytest.raises(DatasetError, match=r"'gone\.jpg'.*does not exist"):
        load_coco_json(path, tmp_path)
    assert len(load_coco_json(path, tmp_path, check_images=False)) == 2
    with pytest.raises(DatasetError, match=r"image folder .* does not exist"):
        load_coco_json(path, tmp_path / "nowhere")
    data["images"][0]["file_name"] = "../gone.jpg"
    with pytest.raises(DatasetError, match="climbs out"):
        load_coco_json(write(tmp_path, data), tmp_path, check_images=False)


def test_counts_of_real_annotations_are_those_of_pycocotools(bccd: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = bccd / "instances_val.json"
    oracle = coco.COCO(str(path))
    records = load_coco_json(path, bccd / "images", NAME)
    assert inspect_coco(path, bccd / "images").counts == {}
    assert [r["image_id"] for r in records] == sorted(oracle.getImgIds())
    classes = MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id
    for record in records:
        expected = oracle.loadAnns(oracle.getAnnIds(imgIds=[record["image_id"]]))
        assert [a["bbox"] for a in record["annotations"]] == [a["bbox"] for a in expected]
        assert [a["category_id"] for a in record["annotations"]] == [classes[a["category_id"]] for a in expected]
