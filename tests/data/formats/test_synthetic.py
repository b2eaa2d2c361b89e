from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivetrain.data.formats.coco import inspect_coco, load_coco_json
from drivetrain.data.formats.coco_panoptic import load_coco_panoptic_json
from drivetrain.data.formats.image_folder import load_image_folder
from drivetrain.data.formats.label_maps import read_label_map, read_panoptic_map
from drivetrain.data.formats.sem_seg import load_sem_seg
from drivetrain.data.formats.shapes import SHAPE_NAMES
from drivetrain.data.formats.synthetic import (
    KEYPOINT_NAMES,
    SyntheticDataset,
    make_synthetic,
    make_synthetic_classification,
    make_synthetic_panoptic,
    make_synthetic_segmentation,
)
from drivetrain.data.images import read_image
from drivetrain.errors import DatasetError, OutputError
from drivetrain.structures import polygons_to_bitmask


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    return make_synthetic(tmp_path_factory.mktemp("drawn"), train=30, val=12, size=(96, 64), seed=3)


def digests(folder: str) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).iterdir())]


def test_the_files_are_sound_and_complete(made: SyntheticDataset) -> None:
    for json_file, images, count in ((made.train_json, made.train_images, 30), (made.val_json, made.val_images, 12)):
        assert not inspect_coco(json_file, images)
        records = load_coco_json(json_file, images)
        assert len(records) == count
        for record in records:
            assert read_image(record["file_name"]).shape == (64, 96, 3)
            assert 1 <= len(record["annotations"]) <= 5


def test_boxes_areas_and_masks_agree_by_the_coco_tools(made: SyntheticDataset) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(made.train_json)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation).astype(bool)
        assert mask.sum() == annotation["area"]
        y, x = np.nonzero(mask)
        left, top, width, height = annotation["bbox"]
        assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == [left, top, left + width, top + height]


def test_keypoints_are_the_extremes(made: SyntheticDataset) -> None:
    content = json.loads(Path(made.val_json).read_text())
    for category in content["categories"]:
        assert tuple(category["keypoints"]) == KEYPOINT_NAMES == ("top", "right", "bottom", "left")
    for annotation in content["annotations"]:
        (_, top, _), (right, _, _), (_, bottom, _), (left, _, _) = np.reshape(annotation["keypoints"], (4, 3)).tolist()
        x, y, width, height = annotation["bbox"]
        assert [left, top, right, bottom] == [x, y, x + width - 1, y + height - 1]
        assert annotation["keypoints"][2::3] == [2] * 4 and annotation["num_keypoints"] == 4


def test_images_depend_on_seed_split_and_index_alone(made: SyntheticDataset, tmp_path: Path) -> None:
    smaller = make_synthetic(tmp_path / "smaller", train=8, val=3, size=(96, 64), seed=3)
    assert digests(smaller.train_images) == digests(made.train_images)[:8]
    assert digests(smaller.val_images) == digests(made.val_images)[:3]
    other = make_synthetic(tmp_path / "other", train=8, val=3, size=(96, 64), seed=4)
    every = digests(made.train_images) + digests(made.val_images) + digests(other.train_images)
    assert len(set(every)) == len(every)


def test_identifiers_start_at_one(made: SyntheticDataset) -> None:
    content = json.loads(Path(made.train_json).read_text())
    assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))


@pytest.mark.parametrize(
    "wrong", [{"train": 0}, {"val": -1}, {"seed": -1}, {"size": (16, 64)}, {"size": (64,)}, {"train": 2.5}]
)
def test_numbers_out_of_range_are_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match=next(iter(wrong))):
        make_synthetic(tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        make_synthetic(tmp_path / "file" / "x", train=1, val=1)


def test_label_maps_have_the_shapes_of_the_same_images(made: SyntheticDataset, tmp_path: Path) -> None:
    drawn = make_synthetic_segmentation(tmp_path, train=4, val=2, size=(96, 64), seed=3)
    assert digests(drawn.train_images) == digests(made.train_images)[:4]
    assert (tmp_path / "classes.txt").read_text().split() == ["background", *SHAPE_NAMES] == list(drawn.class_names)
    records = load_coco_json(made.train_json, made.train_images)[:4]
    for record, labels in zip(records, load_sem_seg(drawn.train_labels, drawn.train_images), strict=True):
        expected = np.zeros((64, 96), dtype=np.uint8)
        for annotation in record["annotations"]:
            expected[polygons_to_bitmask(annotation["segmentation"], 64, 96)] = annotation["category_id"] + 1
        assert np.array_equal(read_label_map(labels["sem_seg_file_name"]), expected)


def test_panoptic_annotations_have_the_same_shapes_and_a_background(made: SyntheticDataset, tmp_path: Path) -> None:
    drawn = make_synthetic_panoptic(tmp_path, train=3, val=2, size=(96, 64), seed=3)
    records = load_coco_panoptic_json(drawn.train_json, drawn.train_images, drawn.train_panoptic)
    assert [r["image_id"] for r in records] == [1, 2, 3]
    for record, other in zip(records, load_coco_json(made.train_json, made.train_images), strict=False):
        background, *shapes = record["segments_info"]
        assert (background["category_id"], background["isthing"]) == (3, False)
        assert drawn.class_names[3] == "background"
        ids = read_panoptic_map(record["pan_seg_file_name"])
        for segment, annotation in zip(shapes, other["annotations"], strict=True):
            assert (segment["bbox"], segment["area"]) == (annotation["bbox"], annotation["area"])
            assert (segment["category_id"], segment["isthing"]) == (annotation["category_id"], True)
            assert (ids == segment["id"]).sum() == segment["area"]


def test_images_by_class(tmp_path: Path) -> None:
    drawn = make_synthetic_classification(tmp_path / "a", train=12, val=6, seed=1)
    records = load_image_folder(drawn.train)
    assert len(records) == 12 and len(load_image_folder(drawn.val)) == 6
    assert sorted(p.name for p in Path(drawn.val).iterdir()) == list(drawn.class_names) == list(SHAPE_NAMES)
    names = sorted(Path(r["file_name"]).name for r in records)
    assert names == [f"{i:06d}.jpg" for i in range(12)]
    smaller = make_synthetic_classification(tmp_path / "b", train=5, val=1, seed=1)
    first = {r["image_id"] for r in records if Path(r["image_id"]).stem < "000005"}
    assert {r["image_id"] for r in load_image_folder(smaller.train)} == first
    for record in load_image_folder(smaller.train):
        original = Path(drawn.train) / record["image_id"]
        assert original.read_bytes() == Path(record["file_name"]).read_bytes()


@pytest.mark.parametrize("make", [make_synthetic_segmentation, make_synthetic_panoptic, make_synthetic_classification])
def test_every_kind_refuses_wrong_numbers_and_folders(tmp_path: Path, make: Callable[..., object]) -> None:
    with pytest.raises(DatasetError, match="train"):
        make(tmp_path, train=0)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        make(tmp_path / "file" / "x", train=1, val=1)
