"""``drivetrain migrate``."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from drivetrain.cli.main import main

OLD = "#!/usr/bin/env python\n# trains\nfrom detectron2.engine import DefaultTrainer  # it\n"
NEW = OLD.replace("detectron2", "drivetrain")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(OLD)
    (tmp_path / "train.py").chmod(0o755)
    (tmp_path / "clean.py").write_text("x = 1\n")
    for folder in (".git", "venv", "__pycache__"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").write_text(OLD)
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    return tmp_path


def test_check_shows_a_diff_and_changes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", ".", "--check"]) == 1
    out = capsys.readouterr().out
    assert "-from detectron2.engine import DefaultTrainer  # it\n+from drivetrain.engine import" in out
    assert "1 of 2 files to change, 0 places left to be done by hand" in out
    assert (project / "train.py").read_text() == OLD


def test_files_are_rewritten_in_place(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "."]) == 0
    assert (project / "train.py").read_text() == NEW and (project / "train.py").stat().st_mode & 0o777 == 0o755
    assert (project / "venv" / "x.py").read_text() == (project / ".git" / "x.py").read_text() == OLD
    assert sorted(p.name for p in project.iterdir() if p.is_file()) == ["clean.py", "train.py"]
    assert main(["migrate", "train.py", "--check"]) == 0
    assert "0 of 1 files to change" in capsys.readouterr().out


def test_notebooks_and_other_encodings(project: Path) -> None:
    cell = {"cell_type": "code", "source": ["import detectron2"]}
    (project / "n.ipynb").write_text(json.dumps({"cells": [cell]}))
    (project / "latin.py").write_bytes("# coding: latin-1\nimport detectron2  # ü\n".encode("latin-1"))
    (project / "bom.py").write_bytes(b"\xef\xbb\xbfimport detectron2\r\n")
    assert main(["migrate", "n.ipynb", "latin.py", "bom.py"]) == 0
    assert json.loads((project / "n.ipynb").read_text())["cells"][0]["source"] == ["import drivetrain"]
    assert (project / "latin.py").read_bytes() == "# coding: latin-1\nimport drivetrain  # ü\n".encode("latin-1")
    assert (project / "bom.py").read_bytes() == b"\xef\xbb\xbfimport drivetrain\r\n"


def test_what_is_left_is_listed_with_file_and_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "left.py").write_text("x = 1\nfrom detectron2.projects.deeplab import ASPP\n")
    (project / "broken.py").write_text("import detectron2 as\n")
    (project / "binary.py").write_bytes(b"\xff\xfe\x00detectron2")
    assert main(["migrate", "."]) == 0
    captured = capsys.readouterr()
    assert "left.py:2: detectron2.projects.deeplab.ASPP has no counterpart" in captured.err
    assert "broken.py:1: " in captured.err and "binary.py:1: the text cannot be read" in captured.err
    assert "3 places left" in captured.out


def test_paths_that_cannot_be_meant(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "notes.txt").write_text("")
    assert main(["migrate", "notes.txt"]) == 2 and "neither a .py file nor a notebook" in capsys.readouterr().err
    assert main(["migrate", "nothing"]) == 2 and "there is no file or folder 'nothing'" in capsys.readouterr().err


def test_a_link_to_nowhere_and_a_file_named_twice(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "gone.py").symlink_to("nothing.py")
    (project / "again.py").symlink_to("train.py")
    assert main(["migrate", ".", "train.py"]) == 0
    assert "1 of 2 files changed" in capsys.readouterr().out
    assert (project / "train.py").read_text() == NEW and (project / "again.py").is_symlink()


def test_a_file_that_cannot_be_replaced_stays_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["migrate", "."]) == 2
    assert "train.py cannot be written (No space left" in capsys.readouterr().err
    assert (project / "train.py").read_text() == OLD
    assert sorted(p.name for p in project.iterdir() if p.is_file()) == ["clean.py", "train.py"]
