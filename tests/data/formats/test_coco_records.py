"""Records of COCO files in the catalog: read once, kept on disk when large, and read anew when the file changed."""

from __future__ import annotations

import json
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats import coco_records as module
from drivetrain.data.formats.coco import load_coco_json, register_coco_instances
from drivetrain.data.formats.coco_records import CocoRecords, convert_coco
from drivetrain.data.records import get_detection_dataset_dicts
from drivetrain.data.store import RecordStore
from drivetrain.errors import DatasetError

NAME = "coco_records_test"


def content(images: int = 6) -> dict[str, Any]:
    return {
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 60, "height": 40} for k in range(images)],
        "annotations": [
            {"id": k, "image_id": k % images, "category_id": 1 + k % 2, "bbox": [1, 2, 3, 4 * (k % 5)], "area": 7}
            for k in range(3 * images)
        ],
        "categories": [
            {"id": 1, "name": "cat", "keypoints": ["left_eye", "right_eye"]},
            {"id": 2, "name": "dog"},
        ],
    }


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRIVETRAIN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(6):
        (folder / f"{k}.jpg").touch()
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content()))
    return path


@pytest.fixture(params=["small", "kept", "streamed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a file is read: from memory, by way of the disk, and piece by piece."""
    if request.param != "small":
        monkeypatch.setattr(module, "_KEPT", 0)
    if request.param == "streamed":
        monkeypatch.setattr(module, "_STREAMED", 0)
    return str(request.param)


def records_of(path: Path) -> CocoRecords:
    return CocoRecords(str(path), str(path.parent / "images"), NAME)


def test_the_records_are_those_of_the_reader_of_files(source: Path, way: str) -> None:
    expected = load_coco_json(source, source.parent / "images")
    for records in (records_of(source), pickle.loads(pickle.dumps(records_of(source)))):
        made = records()
        assert made == expected and type(made) is list and made[0] is not records()[0]
        store = records.store()
        assert list(store) == expected and (store.folder is not None) == (way != "small")
    metadata = MetadataCatalog.get(NAME)
    assert metadata.thing_classes == ["cat", "dog"] and metadata.thing_dataset_id_to_contiguous_id == {1: 0, 2: 1}
    assert metadata.keypoint_names == ["left_eye", "right_eye"]
    assert metadata.keypoint_flip_map == [("left_eye", "right_eye")]


def test_a_file_is_read_once_in_a_process_and_again_when_it_changed(
    source: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(module, "convert_coco", lambda *a: calls.append(a) or convert_coco(*a))  # type: ignore[func-returns-value]
    register_coco_instances(NAME, {}, source, source.parent / "images")
    for _ in range(3):
        assert len(DatasetCatalog.get(NAME)) == 6 and len(get_detection_dataset_dicts(NAME)) == 6
    assert len(calls) == 1
    MetadataCatalog.remove(NAME)
    assert isinstance(DatasetCatalog.store(NAME), RecordStore) and len(calls) == 1
    assert MetadataCatalog.get(NAME).thing_classes == ["cat", "dog"]
    source.write_text(json.dumps(content(images=5)))
    assert len(DatasetCatalog.get(NAME)) == 5 and len(calls) == 2
    records_of(source).store()
    assert len(calls) == (3 if way == "small" else 2)


def test_a_missing_file_is_told_whatever_was_read_before(source: Path, way: str) -> None:
    records = records_of(source)
    records()
    source.unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        records()


def test_what_was_left_out_is_told_each_time(source: Path, way: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="drivetrain"):
            records_of(source)()
        assert "4 annotations left out, 0 corrected" in caplog.text and "annotations[0]" in caplog.text
        assert "6 images, 14 annotations, 2 classes" in caplog.text


def test_errors_are_those_of_the_reader_of_files(source: Path, way: str) -> None:
    data = content()
    data["annotations"][3]["category_id"] = 9
    data["annotations"][4]["bbox"] = "x"
    source.write_text(json.dumps(data))
    with pytest.raises(DatasetError) as whole:
        load_coco_json(source, source.parent / "images")
    with pytest.raises(DatasetError) as caught:
        records_of(source)()
    assert sorted(str(caught.value).splitlines()) == sorted(str(whole.value).splitlines())
    assert not list((source.parent / "cache").rglob("header.json"))
    source.write_text('{"images": [')
    with pytest.raises(DatasetError, match="not valid JSON at line 1, column 13"):
        records_of(source)()
    source.write_text(json.dumps(content()).replace('"width": 60', '"width": 60, "width": 61', 1))
    with pytest.raises(DatasetError, match="'width' twice"):
        records_of(source)()


def test_images_that_are_gone_are_told_by_a_kept_dataset(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 0)
    images = source.parent / "images"
    records_of(source).store()
    (images / "new.jpg").touch()
    os.utime(images, ns=(1, 1))
    assert len(records_of(source).store()) == 6
    (images / "4.jpg").unlink()
    with pytest.raises(DatasetError, match=r"1 images of 6 are missing in '.*images': '.*4\.jpg'"):
        records_of(source).store()
    images.rename(source.parent / "elsewhere")
    with pytest.raises(DatasetError, match="image folder '.*images' does not exist"):
        records_of(source).store()


def test_images_in_another_folder_are_another_dataset(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 0)
    other = source.parent / "other"
    (source.parent / "images").rename(other)
    (source.parent / "images").symlink_to(other)
    names = [
        CocoRecords(str(source), str(root), NAME).store()[0]["file_name"] for root in (other, other.parent / "images")
    ]
    assert names == [str(other / "0.jpg"), str(source.parent / "images" / "0.jpg")]
