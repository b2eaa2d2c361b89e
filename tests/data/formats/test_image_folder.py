from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.image_folder import (
    class_folders,
    load_image_folder,
    read_image_folder,
    register_image_folder,
)
from drivetrain.data.records import stored
from drivetrain.errors import DatasetError

Draw = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, draw: Draw) -> Path:
    """Two images of dogs, one of a cat, and an empty class."""
    for name in ("dog/a.jpg", "dog/old/b.png", "cat/a.jpg", ".trash/x.jpg", "__MACOSX/cat/x.jpg"):
        draw(tmp_path / name)
    (tmp_path / "owl").mkdir()
    return tmp_path


def test_records(folder: Path) -> None:
    records = load_image_folder(folder)
    assert records == [
        {"file_name": str(folder / name), "image_id": name, "height": 10, "width": 20, "class_id": label}
        for name, label in (("cat/a.jpg", 0), ("dog/a.jpg", 1), ("dog/old/b.png", 1))
    ]
    assert list(stored(records)) == records
    assert class_folders(folder) == ["cat", "dog", "owl"]


def test_classes_in_a_given_order(folder: Path) -> None:
    records = load_image_folder(folder, ["owl", "newt", "dog", "cat"])
    assert [r["class_id"] for r in records] == [2, 2, 3]
    with pytest.raises(DatasetError, match=r"owl' is none of the 2 classes \(dog, cat\)"):
        load_image_folder(folder, ["dog", "cat"])


def test_registered_datasets(folder: Path) -> None:
    register_image_folder("cls_x", folder)
    assert len(DatasetCatalog.get("cls_x")) == 3
    metadata = MetadataCatalog.get("cls_x")
    assert metadata.thing_classes == ["cat", "dog", "owl"] and metadata.evaluator_type == "classification"
    register_image_folder("cls_y", folder, ["owl", "dog", "cat"])
    assert [r["class_id"] for r in DatasetCatalog.get("cls_y")] == [1, 1, 2]


def test_what_is_left_out(folder: Path, draw: Draw) -> None:
    draw(folder / "loose.jpg")
    (folder / "cat" / "broken.jpg").write_text("no image")
    (folder / "cat" / "note.txt").touch()
    report = DefectReport("x")
    read = read_image_folder(folder, None, report)
    assert read is not None and len(read.records) == 3 and not report.has_errors
    assert report.counts == {"image without a class": 1, "unreadable image": 1}


def test_folders_without_classes(tmp_path: Path, draw: Draw) -> None:
    with pytest.raises(DatasetError, match="cannot be listed"):
        load_image_folder(tmp_path / "none")
    draw(tmp_path / "flat" / "a.jpg")
    with pytest.raises(DatasetError, match="holds no folder with images; a class is a folder"):
        load_image_folder(tmp_path / "flat")


def test_links_that_lead_out_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory, draw: Draw) -> None:
    secret = draw(tmp_path_factory.mktemp("elsewhere") / "s.jpg")
    (folder / "cat" / "link.jpg").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    with pytest.raises(DatasetError, match="has 2 errors") as error:
        load_image_folder(folder)
    assert "'cat/link.jpg'" in str(error.value) and "'linked/s.jpg'" in str(error.value)
