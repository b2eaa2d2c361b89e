from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from drivetrain.data.formats.coco_check import check_coco
from drivetrain.data.formats.coco_records import make_records
from drivetrain.data.formats.defects import DefectReport

GOOD: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40},
        {"id": "two", "file_name": "b.jpg", "width": 60.0, "height": 40},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": "two", "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 1, "area": 5},
    ],
    "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}],
}


def check(folder: Path, data: dict[str, Any], **options: Any) -> tuple[DefectReport, Any]:
    for name in ("a.jpg", "b.jpg"):
        (folder / name).touch()
    path = folder / "a.json"
    path.write_text(json.dumps(data))
    report = DefectReport(str(path))
    return report, check_coco(path, folder, report, **options)


def test_a_sound_file_has_no_defects(tmp_path: Path) -> None:
    report, columns = check(tmp_path, GOOD)
    assert not report
    assert columns.categories.names == ["cat", "dog"] and columns.categories.index == {1: 0, 2: 1}
    assert columns.image_of.tolist() == [0, 1] and columns.class_of.tolist() == [0, 1]
    assert columns.keep.all()


CHANGES = [
    (("images", 0, "id", None), "incomplete image entry", "'id'"),
    (("images", 0, "id", 1.5), "incomplete image entry", "'id' 1.5"),
    (("images", 0, "id", [1]), "incomplete image entry", r"'id' \[1\]"),
    (("images", 0, "file_name", 5), "incomplete image entry", "'file_name' 5"),
    (("images", 0, "width", 0), "incomplete image entry", "'width' 0"),
    (("images", 0, "height", "40"), "incomplete image entry", "'height' '40'"),
    (("images", 0, "height", float("inf")), "incomplete image entry", "'height' inf"),
    (("images", 0, "width", 10**30), "incomplete image entry", "'width'"),
    (("images", 0, "id", "two"), "duplicate image id", "repeats the id 'two'"),
    (("images", 0, "file_name", "gone.jpg"), "missing image", "gone.jpg.*does not exist"),
    (
        ("images", 0, "file_name", "/etc/passwd"),
        "unsafe file name",
        "is an absolute path; name the files relative",
    ),
    (("images", 0, "file_name", "A.JPG"), "missing image", "'A.JPG' in .*, which does not exist; there is 'a.jpg'"),
    (("images", 0, "file_name", r"..\x.jpg"), "unsafe file name", "names '../x.jpg' in .*climbs out of the folder"),
    (
        ("images", 0, "file_name", r"C:\d\a.jpg"),
        "missing image",
        r"names 'C:\\\\d\\\\a.jpg' in .*there is 'a.jpg': name the",
    ),
    (("annotations", 0, "id", None), "incomplete annotation", "needs an 'id'"),
    (("annotations", 0, "id", 2), "duplicate annotation id", "repeats the id 2; number the annotations"),
    (("annotations", 0, "image_id", 9), "unknown image", "of image 9, which the file does not list$"),
    (("annotations", 0, "image_id", "1"), "unknown image", "of image '1', .*; it lists 1, a number$"),
    (("annotations", 0, "category_id", "2"), "unknown category id", r"2 = 'dog'\); it lists 2, a number$"),
    (("annotations", 0, "image_id", {"a": 1}), "unknown image", "of image"),
    (("annotations", 0, "category_id", 9), "unknown category id", "category_id 9.*1 = 'cat', 2 = 'dog'"),
    (("annotations", 0, "category_id", None), "unknown category id", "category_id None"),
    (("annotations", 0, "iscrowd", 2), "malformed iscrowd", "iscrowd 2"),
    (("annotations", 0, "iscrowd", "0"), "malformed iscrowd", "iscrowd '0'"),
    (("annotations", 0, "area", float("nan")), "malformed area", "area nan"),
    (("annotations", 0, "area", 10**30), "malformed area", "area 1000"),
    (("annotations", 0, "area", "big"), "malformed area", "area 'big'"),
    (("annotations", 0, "bbox", None), "malformed box", "the box None"),
    (("annotations", 0, "bbox", [1, 2, 3]), "malformed box", "4 numbers"),
    (("categories", 0, "id", "2"), "incomplete category", "integer 'id'"),
    (("categories", 0, "name", None), "incomplete category", "'name'"),
    (("categories", 0, "id", 1), "duplicate category id", "repeats the id 1"),
    (("categories", 0, "name", "cat"), "duplicate category name", "repeats the name 'cat': give it another"),
    (("categories", 0, "keypoints", 5), "malformed category", "'keypoints'"),
]


@pytest.mark.parametrize(("change", "kind", "message"), CHANGES)
def test_each_error_is_found_under_its_kind(tmp_path: Path, change: Any, kind: str, message: str) -> None:
    section, place, key, value = change
    data = copy.deepcopy(GOOD)
    data[section][place][key] = value
    report, _ = check(tmp_path, data)
    assert report.counts.get(kind) == 1
    assert report.has_errors
    with pytest.raises(Exception, match=message):
        report.raise_if_errors()


def test_a_broken_image_entry_is_not_told_again_for_its_annotations(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    del data["images"][0]["width"]
    assert check(tmp_path, data)[0].counts == {"incomplete image entry": 1}


def test_a_missing_section_is_not_told_again_for_every_annotation(tmp_path: Path) -> None:
    data = {k: v for k, v in GOOD.items() if k != "categories"}
    report, columns = check(tmp_path, data)
    assert report.counts == {"missing section": 1} and columns is None


def test_empty_sections(tmp_path: Path) -> None:
    assert check(tmp_path, {**GOOD, "images": [], "annotations": []})[0].counts == {"no image": 1}
    assert check(tmp_path, {**GOOD, "categories": [], "annotations": []})[0].counts == {"no category": 1}
    assert check(tmp_path, {**GOOD, "images": []})[0].counts == {"no image": 1, "unknown image": 2}
    assert not check(tmp_path, {**GOOD, "annotations": []})[0]


def test_classes_must_agree_on_keypoints(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    data["categories"][0]["keypoints"] = ["a", "b"]
    data["categories"][1]["keypoints"] = ["a"]
    assert check(tmp_path, data)[0].counts == {"differing keypoints": 1}
    data["categories"][1].update(keypoints=["a", "b"], keypoint_flip_map=[["a", "c"]])
    assert check(tmp_path, data)[0].counts == {"malformed category": 1}


def test_missing_files_are_not_an_error_when_not_asked_for(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    data["images"][0]["file_name"] = "gone.jpg"
    assert not check(tmp_path, data, check_images=False)[0]


def test_a_category_named_twice_is_told_once(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    data["categories"][0]["name"] = data["categories"][1]["name"]
    assert check(tmp_path, data)[0].counts == {"duplicate category name": 1}


def test_classes_have_the_order_of_their_ids(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    data["categories"] = [{"id": 2, "name": "ant"}, {"id": 1, "name": "cat"}, {"id": 0, "name": "bee"}]
    _, columns = check(tmp_path, data)
    assert columns.categories.names == ["bee", "cat", "ant"] and columns.class_of.tolist() == [1, 2]


def test_null_stands_for_nothing(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    data["annotations"][0].update(iscrowd=None, area=None, segmentation=None, keypoints=None)
    report, columns = check(tmp_path, data)
    assert not report
    (annotation,) = make_records(columns, str(tmp_path))[0]["annotations"]
    assert annotation["iscrowd"] == 0 and not {"area", "segmentation", "keypoints"} & set(annotation)


def test_names_with_backslashes_are_read_with_slashes_unless_they_are_files(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    data["images"][0]["file_name"] = r"sub\1\a b.jpg"
    data["images"][1]["file_name"] = r"odd\b.jpg"
    (tmp_path / "sub" / "1").mkdir(parents=True)
    for name in ("sub/1/a b.jpg", r"odd\b.jpg"):
        (tmp_path / name).touch()
    report, columns = check(tmp_path, data)
    assert [image["file_name"] for image in columns.images] == ["sub/1/a b.jpg", r"odd\b.jpg"]
    assert report.counts == {"backslash in file name": 1} and not report.has_errors
    assert "names 'sub\\\\1\\\\a b.jpg', which is read with slashes" in report.to_text()
