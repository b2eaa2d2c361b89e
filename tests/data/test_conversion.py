from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivetrain.data.conversion import TARGETS, convert, read_splits
from drivetrain.data.formats.coco import load_coco_json
from drivetrain.data.formats.known import FORMATS
from drivetrain.data.formats.sources import find_source
from drivetrain.data.formats.synthetic import (
    SyntheticDataset,
    make_synthetic,
    make_synthetic_classification,
    make_synthetic_segmentation,
)
from drivetrain.errors import DatasetError, OutputError


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    return make_synthetic(tmp_path_factory.mktemp("shapes"), train=4, val=2, size=(64, 48), seed=6)


def sources(shapes: SyntheticDataset) -> dict[str, Any]:
    return {"train": find_source(shapes.train_json), "val": find_source(shapes.val_json)}


def boxes(records: list[dict[str, Any]]) -> list[Any]:
    return [[(a["category_id"], [round(v, 6) for v in a["bbox"]]) for a in r["annotations"]] for r in records]


@pytest.mark.parametrize("target", ["yolo", "voc", "coco"])
def test_boxes_go_there_and_back(shapes: SyntheticDataset, tmp_path: Path, target: str) -> None:
    there = convert(sources(shapes), target, tmp_path / "there", image_files="link")
    assert there.images == {"train": 4, "val": 2}
    back = {
        split: find_source(
            tmp_path / "there" / f"instances_{split}.json" if target == "coco" else tmp_path / "there", split=split
        )
        for split in ("train", "val")
    }
    convert(back, "coco", tmp_path / "back")
    for split, json_file, images in (
        ("train", shapes.train_json, shapes.train_images),
        ("val", shapes.val_json, shapes.val_images),
    ):
        again = load_coco_json(tmp_path / "back" / f"instances_{split}.json", tmp_path / "back" / "images" / split)
        assert boxes(again) == boxes(load_coco_json(json_file, images))
    assert ("masks" in there.losses) is (target == "voc")


def test_every_format_can_be_written() -> None:
    assert set(TARGETS) == set(FORMATS)


def test_what_a_source_does_not_have_is_refused(tmp_path: Path, shapes: SyntheticDataset) -> None:
    maps = make_synthetic_segmentation(tmp_path / "maps", train=1, val=1, size=(32, 32))
    images = make_synthetic_classification(tmp_path / "cls", train=1, val=1, size=(32, 32))
    source = find_source(maps.train_labels, images=maps.train_images)
    for target in ("coco", "voc", "yolo", "coco_panoptic", "folder"):
        with pytest.raises(DatasetError, match=f"has the format 'sem_seg', which has not what '{target}' needs"):
            convert({"train": source}, target, tmp_path / "out")
    with pytest.raises(DatasetError, match="has the format 'folder'"):
        convert({"train": find_source(images.train)}, "coco", tmp_path / "out")
    with pytest.raises(DatasetError, match="the format 'cocoo' is unknown; did you mean 'coco'"):
        convert(sources(shapes), "cocoo", tmp_path / "out")
    with pytest.raises(DatasetError, match="images are 'copy', 'link', 'none', not 'move'"):
        convert(sources(shapes), "coco", tmp_path / "out", image_files="move")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_an_error_leaves_nothing(shapes: SyntheticDataset, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(OutputError, match="exists already"):
        convert(sources(shapes), "yolo", tmp_path / "full")
    with pytest.raises(DatasetError, match="not 'dev'"):
        convert({"dev": find_source(shapes.train_json)}, "yolo", tmp_path / "new")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["full", "x"]


def test_splits_with_other_classes_or_defects_are_refused(shapes: SyntheticDataset, tmp_path: Path) -> None:
    content = json.loads(Path(shapes.val_json).read_text())
    content["categories"][0]["name"] = "disc"
    (tmp_path / "other.json").write_text(json.dumps(content))
    other = find_source(tmp_path / "other.json", images=shapes.val_images)
    with pytest.raises(DatasetError, match=r"are \['circle', .*\], but those of .*other\.json' are \['disc', "):
        read_splits({"train": find_source(shapes.train_json), "val": other})
    content["annotations"][0]["category_id"] = 99
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="category_id 99"):
        read_splits({"val": other})


def test_what_was_left_out_of_the_source_is_told(shapes: SyntheticDataset, tmp_path: Path) -> None:
    content = json.loads(Path(shapes.val_json).read_text())
    content["annotations"][0]["bbox"] = [0, 0, 0, 0]
    (tmp_path / "other.json").write_text(json.dumps(content))
    source = find_source(tmp_path / "other.json", images=shapes.val_images)
    result = convert({"val": source}, "voc", tmp_path / "out", image_files="none")
    assert result.reports["val"].counts == {"degenerate box": 1} and result.folder == str(tmp_path / "out")
