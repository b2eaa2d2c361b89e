from __future__ import annotations

import json
import shutil
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
    names = [category["name"] for category in content["categories"]]
    for category, name in zip(content["categories"], ["circle", *reversed(names[1:])], strict=True):
        category["name"] = name
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"are \['circle', 'square', .*\], but .* \['circle', 'triangle', 'squ"):
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


def rich(shapes: SyntheticDataset, path: Path) -> dict[str, Any]:
    """A file with more than what is learned from: its content."""
    content: dict[str, Any] = json.loads(Path(shapes.train_json).read_text())
    content |= {"info": {"year": 2031}, "licenses": [{"id": 1, "name": "CC"}], "videos": [{"id": 3}]}
    for number, category in enumerate(content["categories"]):
        category |= {"id": 10 * number, "supercategory": f"s{number}", "skeleton": [[1, 2]], "colour": "#f00"}
    for image in content["images"]:
        image |= {"license": 1, "date_captured": "2031-01-01", "coco_url": "", "video_id": 3}
    for number, annotation in enumerate(content["annotations"]):
        annotation |= {"id": 1000 - number, "category_id": 10 * (annotation["category_id"] - 1), "track": number}
        annotation |= {"area": annotation["area"] + 0.5, "attributes": {"occluded": number % 2 == 0}}
    path.write_text(json.dumps(content))
    return content


def by_id(entries: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    return {entry["id"]: entry for entry in entries}


@pytest.mark.parametrize("image_files", ["copy", "none"])
def test_from_coco_to_coco_nothing_is_lost(shapes: SyntheticDataset, tmp_path: Path, image_files: str) -> None:
    content = rich(shapes, tmp_path / "rich.json")
    source = find_source(tmp_path / "rich.json", images=shapes.train_images)
    convert({"train": source}, "coco", tmp_path / "out", image_files=image_files)
    again = json.loads((tmp_path / "out" / "instances_train.json").read_text())
    assert set(again) == set(content)
    for name in ("images", "annotations", "categories"):
        assert by_id(again.pop(name)) == by_id(content.pop(name))
    assert again == content


def test_what_is_left_out_takes_nothing_else_with_it(shapes: SyntheticDataset, tmp_path: Path) -> None:
    content = rich(shapes, tmp_path / "rich.json")
    content["annotations"][0]["bbox"] = [1, 1, 0, 5]
    left_out = content["annotations"][0]["id"]
    (tmp_path / "rich.json").write_text(json.dumps(content))
    source = find_source(tmp_path / "rich.json", images=shapes.train_images)
    result = convert({"train": source}, "coco", tmp_path / "out", image_files="none")
    assert result.reports["train"].counts == {"degenerate box": 1}
    again = json.loads((tmp_path / "out" / "instances_train.json").read_text())
    expected = by_id(content["annotations"])
    del expected[left_out]
    assert by_id(again["annotations"]) == expected and by_id(again["images"]) == by_id(content["images"])


def test_texts_as_ids_and_names_of_any_letters(tmp_path: Path, shapes: SyntheticDataset) -> None:
    for name in ("ä b.JPG", "日本.jpg"):
        (tmp_path / "in" / "1").mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(shapes.train_images) / "000000.jpg", tmp_path / "in" / "1" / name)
    images = [
        {"id": f"i{n}", "file_name": f"1\\{name}", "width": 64, "height": 48}
        for n, name in enumerate(("ä b.JPG", "日本.jpg"))
    ]
    annotation = {"id": "a", "image_id": "i1", "category_id": 0, "bbox": [1, 2, 3.25, 4]}
    content = {"images": images, "annotations": [annotation], "categories": [{"id": 0, "name": "größe"}]}
    (tmp_path / "in" / "result.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    for target in ("coco", "voc", "yolo"):
        convert({"train": find_source(tmp_path / "in")}, target, tmp_path / target)
        back = find_source(tmp_path / target, split="train")
        convert({"train": back}, "coco", tmp_path / f"{target}_coco")
        (again,) = (tmp_path / f"{target}_coco").glob("*.json")
        records = load_coco_json(again, tmp_path / f"{target}_coco" / "images" / "train")
        assert sorted(Path(r["file_name"]).name for r in records) == ["ä b.JPG", "日本.jpg"]
        assert [box for found in boxes(records) for box in found] == [(0, [1, 2, 3.25, 4])]
    assert json.loads(again.read_text())["categories"] == [{"id": 1, "name": "größe"}]
    kept = json.loads((tmp_path / "coco" / "instances_train.json").read_text())
    assert [i["id"] for i in kept["images"]] == ["i0", "i1"] and kept["annotations"][0]["id"] == "a"
