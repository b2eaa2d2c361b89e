from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.yolo_config import YoloConfig, read_yolo_config


def read(folder: Path, text: str, **options: Any) -> tuple[YoloConfig | None, DefectReport]:
    path = folder / "data.yaml"
    path.write_text(text, encoding="utf-8")
    report = DefectReport("data.yaml")
    return read_yolo_config(path, report, **options), report


def test_everything(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    text = (
        "path: d\ntrain: images/train\nval: [images/a, b.txt]\ntest:\nnc: 2\nnames: {0: cat, 1: dog}\n"
        "kpt_shape: [3, 2]\nflip_idx: [0, 2, 1]\nkpt_names: {0: [n, l, r], 1: [n, l, r]}\n"
    )
    config, report = read(tmp_path, text)
    assert not report
    assert config == YoloConfig(
        str(tmp_path / "data.yaml"),
        str(tmp_path),
        ["cat", "dog"],
        {"train": ["images/train"], "val": ["images/a", "b.txt"]},
        "d",
        (3, 2),
        [0, 2, 1],
        ["n", "l", "r"],
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [a, 1, 2.5]", ["a", "1", "2.5"]),
        ("names: {1: b, 0: a}", ["a", "b"]),
        ("nc: 2", ["class 0", "class 1"]),
    ],
)
def test_names(tmp_path: Path, text: str, names: list[str]) -> None:
    config, report = read(tmp_path, text)
    assert config is not None and config.names == names and not report


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'names' must be a list of the classes"),
        ("names: []", "'names' must be a list"),
        ("names: [yes, no]", "not '[True, False]'; put words such as no and yes in quotes"),
        ("names: [a, a]", "'names' has 'a' twice"),
        ("names: {1: a}", "the keys of 'names' must be the 1 numbers from 0 on"),
        ("names: [a]\nnc: 3", "'nc' is 3, but 'names' has 1 classes"),
        ("names: [a]\nnames: [b]", "data.yaml:2: names is given twice"),
        ("names: [a]\ntrain: 5", "'train' must be a folder, a list file or several of them, not '5'"),
        ("names: [a]\npath: [x]", "'path' must be a folder"),
        ("names: [a]\nkpt_shape: [17, 4]", "'kpt_shape' must be [number of keypoints, 2 or 3]"),
        ("names: [a]\nkpt_shape: [2, 3]\nflip_idx: [1, 1]", "'flip_idx' must hold each of 0 to 1 once"),
        ("names: [a]\nkpt_shape: [2, 3]\nkpt_names: [x]", "'kpt_names' must hold the 2 names"),
        ("- a", "must have keys such as 'names'"),
        ("names: !!python/object/apply:os.system [touch canary]", "this is not plain YAML"),
        (
            "a: &a [x,x,x,x]\n"
            + "".join(f"{c}: &{c} [*{p},*{p},*{p},*{p},*{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
            "expands to more than",
        ),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, why: str) -> None:
    _, report = read(tmp_path, text)
    assert report.has_errors and why in report.to_text()
    assert not (tmp_path / "canary").exists()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    report = DefectReport("x")
    assert read_yolo_config(tmp_path / "none.yaml", report) is None
    (tmp_path / "b.yaml").write_bytes(b"\xff\xff")
    assert read_yolo_config(tmp_path / "b.yaml", report) is None
    assert "does not exist" in report.to_text() and "not a text file" in report.to_text()


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "none"])
def test_a_path_that_leads_elsewhere_is_passed_over_and_told(tmp_path: Path, path: str) -> None:
    config, report = read(tmp_path, f"path: {path}\nnames: [a]")
    assert config is not None and config.base == ""
    assert report.counts == {"other path": 1} and not report.has_errors
    assert repr(path) in report.to_text()


def test_the_folder_itself_as_path(tmp_path: Path) -> None:
    for path in (".", str(tmp_path), "./"):
        config, report = read(tmp_path, f"path: {path}\nnames: [a]")
        assert config is not None and config.base == "" and not report


def test_another_root(tmp_path: Path) -> None:
    (tmp_path / "yaml").mkdir()
    (tmp_path / "data").mkdir()
    config, report = read(tmp_path / "yaml", "path: data\nnames: [a]", root=tmp_path)
    assert config is not None and (config.root, config.base) == (str(tmp_path), "data") and not report
