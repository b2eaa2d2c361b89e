"""Local files by iopath's calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.compat.file_io import LocalPathManager, PathManager
from drivetrain.errors import UserInputError


def test_files_and_folders(tmp_path: Path) -> None:
    folder = str(tmp_path / "a" / "b")
    PathManager.mkdirs(folder)
    PathManager.mkdirs(folder)
    with PathManager.open(f"{folder}/x.txt", "w") as file:
        file.write("content")
    assert (
        PathManager.isdir(folder) and PathManager.isfile(f"{folder}/x.txt") and PathManager.exists(f"file://{folder}")
    )
    assert PathManager.copy(f"{folder}/x.txt", f"{folder}/y.txt")
    assert not PathManager.copy(f"{folder}/x.txt", f"{folder}/y.txt")
    assert PathManager.ls(folder) == ["x.txt", "y.txt"]
    PathManager.rm(f"{folder}/x.txt")
    assert PathManager.ls(folder) == ["y.txt"] and PathManager.get_local_path(folder) == folder


def test_addresses_are_refused() -> None:
    manager = LocalPathManager()
    manager.register_handler(object())
    with pytest.raises(UserInputError, match=r"'detectron2://x\.pkl' is an address, and nothing is downloaded"):
        manager.open("detectron2://x.pkl")
