from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.data.formats.class_names import find_class_names, read_class_names, read_label_colours
from drivetrain.errors import DatasetError


def test_one_name_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("cat\n\n traffic light \n", encoding="utf-8")
    assert read_class_names(path) == ["cat", "traffic light"]
    assert find_class_names([tmp_path / "none", tmp_path]) == ["cat", "traffic light"]
    assert find_class_names([tmp_path / "none"]) is None


@pytest.mark.parametrize(("text", "why"), [("\n", "names no class"), ("a\nb\na\n", "names the class 'a' twice")])
def test_files_that_name_no_classes(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DatasetError, match=why):
        find_class_names([tmp_path])


def test_names_beside_colours(tmp_path: Path) -> None:
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nred car:128,0,0:wheel,door:\ndog:0,128,0::\n"
    (tmp_path / "labelmap.txt").write_text(text)
    assert read_label_colours(tmp_path / "labelmap.txt") == ["background", "red car", "dog"]
