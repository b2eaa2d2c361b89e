"""Config files and their bases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivetrain.config.files import load_yaml_with_base, read_layers
from drivetrain.config.problems import Problems
from drivetrain.errors import ConfigError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_bases_come_first_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    write(tmp_path, "base/root.yaml", "A: 1\nB: {C: 1, D: 1}\n")
    write(tmp_path, "base/mid.yaml", "_BASE_: root.yaml\nB: {C: 2}\n")
    write(tmp_path, "side.yaml", "A: 5\nE: side\n")
    top = write(tmp_path, "top.yaml", "_BASE_: [base/mid.yaml, side.yaml]\nB: {D: 3}\n")
    assert load_yaml_with_base(top) == {"A": 5, "B": {"C": 2, "D": 3}, "E": "side"}
    names = [Path(layer.name).name for layer in read_layers(top, Problems())]
    assert names == ["root.yaml", "mid.yaml", "side.yaml", "top.yaml"]


def test_a_base_shared_by_two_is_no_circle(tmp_path: Path) -> None:
    write(tmp_path, "root.yaml", "A: 1\n")
    write(tmp_path, "x.yaml", "_BASE_: root.yaml\nX: 1\n")
    write(tmp_path, "y.yaml", "_BASE_: root.yaml\nY: 1\n")
    top = write(tmp_path, "top.yaml", "_BASE_: [x.yaml, y.yaml]\n")
    assert load_yaml_with_base(top) == {"A": 1, "X": 1, "Y": 1}


def test_the_result_is_plain_dicts_and_text_paths_and_marks_are_accepted(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "\ufeffA: {B: [{C: 1}]}\n")
    loaded = load_yaml_with_base(str(path), allow_unsafe=True)
    assert loaded == {"A": {"B": [{"C": 1}]}}
    assert type(loaded["A"]) is dict and type(loaded["A"]["B"][0]) is dict


def test_circles_are_shown(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "_BASE_: b.yaml\n")
    write(tmp_path, "b.yaml", "_BASE_: c.yaml\n")
    path = write(tmp_path, "c.yaml", "_BASE_: b.yaml\n")
    with pytest.raises(ConfigError, match=r"circle \(b.yaml -> c.yaml -> b.yaml\)"):
        load_yaml_with_base(tmp_path / "a.yaml")
    write(tmp_path, "self.yaml", "_BASE_: self.yaml\n")
    with pytest.raises(ConfigError, match=r"circle \(self.yaml -> self.yaml\)"):
        load_yaml_with_base(tmp_path / "self.yaml")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.yaml").symlink_to(write(tmp_path, "d.yaml", "_BASE_: folder/../link.yaml\n"))
    with pytest.raises(ConfigError, match=r"circle \(d.yaml -> d.yaml\)"):
        load_yaml_with_base(tmp_path / "d.yaml")
    assert path.exists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "A: 1\n_BASE_: https://host/a.yaml\n",
            "f.yaml:2: _BASE_ must be a local file, received 'https://host/a.yaml'",
        ),
        ("_BASE_: 3\n", "f.yaml:1: _BASE_ must be a file name or a list of them, received 3"),
        ("_BASE_: [a.yaml, 3]\n", "_BASE_ must be a file name or a list of them"),
        ("_BASE_: ''\n", "_BASE_ must be a file name"),
        ("_BASE_: othr.yaml\n", "othr.yaml does not exist; did you mean 'other.yaml'"),
        ("A: 1\n_BASE_: othr.yaml\n", "f.yaml:2: _BASE_: config file"),
        ("- 1\n- 2\n", "f.yaml: a config file holds keys and values (SOLVER: ...), not [1, 2]"),
        ("just text\n", "not 'just text'"),
    ],
)
def test_what_cannot_be_a_config_file(tmp_path: Path, text: str, part: str) -> None:
    write(tmp_path, "other.yaml", "A: 1\n")
    path = write(tmp_path, "f.yaml", text)
    with pytest.raises(ConfigError) as error:
        load_yaml_with_base(path)
    assert part in str(error.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; name a \.yaml file in it"):
        load_yaml_with_base(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        load_yaml_with_base(tmp_path / "no" / "such.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"A: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin.yaml is not UTF-8 text \(byte 6\)"):
        load_yaml_with_base(tmp_path / "latin.yaml")
    secret = write(tmp_path, "secret.yaml", "A: 1")
    secret.chmod(0)
    if not os.access(secret, os.R_OK):
        with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
            load_yaml_with_base(secret)


def test_duplicate_keys_of_all_files_are_reported_together(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "A: 1\nA: 2\n")
    path = write(tmp_path, "f.yaml", "_BASE_: base.yaml\nS:\n  B: 1\n  B: 2\n")
    with pytest.raises(ConfigError) as error:
        load_yaml_with_base(path)
    assert "base.yaml:2: A is given twice (first in line 1); keep one" in str(error.value)
    assert "f.yaml:4: B is given twice (first in line 3); keep one" in str(error.value)
