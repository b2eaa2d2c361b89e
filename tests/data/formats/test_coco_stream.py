"""COCO files read piece by piece: the same records as from the whole, or a refusal."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetrain.data.formats import coco_stream as module
from drivetrain.data.formats.coco import load_coco_json
from drivetrain.data.formats.coco_check import check_coco
from drivetrain.data.formats.coco_records import make_records
from drivetrain.data.formats.coco_stream import scan_coco
from drivetrain.data.formats.defects import DefectReport


def content(images: int = 30, seed: int = 0) -> dict[str, Any]:
    rng = random.Random(seed)
    ids = rng.sample(range(10_000), images)
    categories = [{"id": i, "name": f"ä{i}"} for i in (7, 3, 5)]
    names = [{"id": k, "file_name": f"日{k}.jpg", "width": 60, "height": 40, "odd": [1, {"a": '}]"'}]} for k in ids]
    annotations = []
    for number in range(4 * images):
        box = [rng.randrange(40), rng.randrange(20), rng.randrange(1, 30), rng.randrange(1, 30)]
        entry = {"id": number, "image_id": rng.choice(ids), "category_id": rng.choice((3, 5, 7)), "bbox": box}
        entry |= {"iscrowd": number % 2, "area": 5.25, "segmentation": [[0, 0, 9, 0, 9, 9.5]]} if number % 3 else {}
        annotations.append(entry)
    return {"info": {"a": [1]}, "images": names, "annotations": annotations, "categories": categories, "n": 12345}


def write(folder: Path, data: Any, **options: Any) -> Path:
    path = folder / "a.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data, **options), encoding="utf-8")
    return path


def streamed(path: Path) -> list[dict[str, Any]]:
    stream = scan_coco(path)
    assert stream is not None
    parts = stream.columns(path.parent, DefectReport(str(path)), check_images=False)
    return [record for columns in parts for record in make_records(columns, str(path.parent))]


@pytest.mark.parametrize("window", [1, 7, 200, 1 << 20])
@pytest.mark.parametrize("style", [{}, {"indent": 1, "ensure_ascii": False}, {"separators": (",", ":")}])
def test_the_records_are_those_of_the_whole_file(
    tmp_path: Path, window: int, style: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WINDOW", window)
    monkeypatch.setattr(module, "_IMAGES", 7)
    path = write(tmp_path, content(), **style)
    assert streamed(path) == load_coco_json(path, tmp_path, check_images=False)


def test_sections_may_stand_in_any_order(tmp_path: Path) -> None:
    data = content()
    for keys in (("categories", "annotations", "images"), ("annotations", "images", "categories")):
        path = write(tmp_path, {key: data[key] for key in keys})
        assert streamed(path) == load_coco_json(path, tmp_path, check_images=False)


def test_defects_are_named_by_their_places_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IMAGES", 4)
    data = content()
    data["annotations"][17]["bbox"] = [1, 2, 0, 4]
    data["annotations"][50]["category_id"] = 99
    data["images"][11]["width"] = None
    path = write(tmp_path, data)
    report, whole = DefectReport(str(path)), DefectReport(str(path))
    stream = scan_coco(path)
    assert stream is not None
    list(stream.columns(tmp_path, report, check_images=False))
    check_coco(path, tmp_path, whole, check_images=False)
    assert sorted(report.rows()) == sorted(whole.rows())
    assert "annotations[17]" in report.to_text() and "images[11]" in report.to_text()


def test_missing_images_are_defects(tmp_path: Path) -> None:
    path = write(tmp_path, content(images=5))
    (tmp_path / content(images=5)["images"][0]["file_name"]).touch()
    stream, report = scan_coco(path), DefectReport("a.json")
    assert stream is not None
    list(stream.columns(tmp_path, report))
    assert report.counts["missing image"] == 4


def changed(**changes: Any) -> dict[str, Any]:
    return {**content(images=3), **changes}


def entries(section: str, index: int, **changes: Any) -> dict[str, Any]:
    data = content(images=3)
    data[section][index].update(changes)
    return data


UNUSUAL = {
    "empty": "",
    "list": [1],
    "cut": json.dumps(content())[:-40],
    "more": json.dumps(content()) + "x",
    "comma": json.dumps(content()).replace('"annotations": [', '"annotations": [,'),
    "colon": json.dumps(content()).replace('"images":', '"images"'),
    "deep": '{"images": ' + "[" * 200_000,
    "a section twice": json.dumps(content())[:-1] + ', "images": []}',
    "no images": {k: v for k, v in content().items() if k != "images"},
    "no categories": {k: v for k, v in content().items() if k != "categories"},
    "no annotation": changed(annotations=[]),
    "images as an object": changed(images={"id": 1}),
    "categories of no objects": changed(categories=[5]),
    "an entry of no object": changed(annotations=[5, 6]),
    "text as an id": entries("images", 0, id="a"),
    "an id twice": entries("images", 0, id=content(images=3)["images"][1]["id"]),
    "an annotation's id twice": entries("annotations", 0, id=1),
    "an annotation of no image": entries("annotations", 0, image_id=-5),
    "an annotation without an image": entries("annotations", 0, image_id=None),
    "an id of many digits": entries("annotations", 0, id=2**70),
    "keypoints without names": entries("annotations", 0, keypoints=[1, 2, 2]),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_left_to_the_other_reader(tmp_path: Path, name: str) -> None:
    assert scan_coco(write(tmp_path, UNUSUAL[name])) is None
    assert scan_coco(tmp_path / "missing.json") is None


def test_a_name_twice_in_an_entry_is_not_read_over(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(content()).replace('"width": 60', '"width": 60, "width": 61', 1))
    with pytest.raises(ValueError, match="'width' twice"):
        streamed(path)


def test_memory_is_far_from_that_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW", 1 << 16)
    monkeypatch.setattr(module, "_IMAGES", 64)
    path = write(tmp_path, content(3000))

    def peak(read: Callable[[], object]) -> int:
        tracemalloc.start()
        read()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    def in_pieces() -> None:
        stream = scan_coco(path)
        assert stream is not None
        for columns in stream.columns(tmp_path, DefectReport("a"), check_images=False):
            del columns

    assert 8 * peak(in_pieces) < peak(lambda: check_coco(path, tmp_path, DefectReport("a"), check_images=False))
