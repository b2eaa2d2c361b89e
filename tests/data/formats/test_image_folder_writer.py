from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.image_folder import load_image_folder
from drivetrain.data.formats.image_folder_writer import write_image_folder
from drivetrain.data.formats.sources import find_source
from drivetrain.data.formats.synthetic import make_synthetic_classification
from drivetrain.errors import OutputError


def test_images_come_back_with_their_classes(tmp_path: Path) -> None:
    made = make_synthetic_classification(tmp_path / "made", train=6, val=1, size=(32, 32))
    records = load_image_folder(made.train)
    read = ReadDataset(records, made.train, {"thing_classes": [*made.class_names, "newt"]})
    (out := tmp_path / "out").mkdir()
    assert not write_image_folder(out, {"val": read}, "link")
    source = find_source(out)
    assert source.classes == (*made.class_names, "newt")
    again = load_image_folder(source.path, source.classes)
    assert [(r["image_id"], r["class_id"]) for r in again] == [(r["image_id"], r["class_id"]) for r in records]
    assert all(Path(a["file_name"]).samefile(b["file_name"]) for a, b in zip(again, records, strict=True))
    assert (out / "val" / "newt").is_dir()
    with pytest.raises(OutputError, match="copy or link them"):
        write_image_folder(out, {"val": read}, "none")


@pytest.mark.parametrize("name", ["../outside", "..", ".", "a/b", "a\0b"])
def test_a_class_that_is_no_folders_name(name: str, tmp_path: Path) -> None:
    (out := tmp_path / "out").mkdir()
    read = ReadDataset([], str(tmp_path), {"thing_classes": ["newt", name]})
    with pytest.raises(OutputError, match="cannot be a folder's name"):
        write_image_folder(out, {"train": read}, "copy")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["newt", "out", "train"]
