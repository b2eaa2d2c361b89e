from __future__ import annotations

import os
from pathlib import Path

import pytest

from drivetrain.data.paths import FolderIndex, resolve_inside
from drivetrain.errors import DatasetError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    (images / "a.jpg").touch()
    (images / "sub" / "b.jpg").touch()
    (tmp_path / "secret.txt").touch()
    (images / "inner_link.jpg").symlink_to(images / "a.jpg")
    (images / "outer_link.jpg").symlink_to(tmp_path / "secret.txt")
    (images / "outer_folder").symlink_to(tmp_path)
    (images / "dangling.jpg").symlink_to(images / "nothing.jpg")
    return images


ESCAPES = [
    "../secret.txt",
    "sub/../../secret.txt",
    "/etc/passwd",
    "outer_link.jpg",
    "outer_folder/secret.txt",
    "",
    "a\0b",
    "\ud800/a.jpg",
    "sub/",
]
INSIDE = ["a.jpg", "sub/b.jpg", "./a.jpg", "inner_link.jpg", "..a.jpg"]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_leave_the_folder_are_refused(root: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="must stay inside"):
        resolve_inside(root, name)
    problem = FolderIndex(root).problem(name)
    assert problem is not None and problem[0] == "unsafe"


@pytest.mark.parametrize("name", INSIDE)
def test_names_inside_are_joined_to_the_folder(root: Path, name: str) -> None:
    assert resolve_inside(root, name) == os.path.join(root, name)


def test_the_root_may_itself_be_a_link_and_relative(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert resolve_inside(link, "a.jpg") == str(link / "a.jpg")
    assert FolderIndex(link).problem("sub/b.jpg") is None
    monkeypatch.chdir(root)
    assert resolve_inside("", "a.jpg") == "a.jpg"
    assert FolderIndex(".").problem("a.jpg") is None


def test_a_folder_with_a_similar_name_is_outside(root: Path) -> None:
    neighbour = root.parent / "images2"
    neighbour.mkdir()
    (neighbour / "x.jpg").touch()
    (root / "trick").symlink_to(neighbour)
    with pytest.raises(DatasetError):
        resolve_inside(root, "trick/x.jpg")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("c.jpg", "does not exist"),
        ("sub", "is not a file"),
        ("no/a.jpg", "does not exist"),
        ("dangling.jpg", "is not a file"),
    ],
)
def test_missing_files_are_found_by_listing(root: Path, name: str, why: str) -> None:
    assert FolderIndex(root).problem(name) == ("missing", why)


def test_files_inside_have_no_problem(root: Path) -> None:
    index = FolderIndex(root)
    assert [index.problem(name) for name in ("a.jpg", "sub/b.jpg", "inner_link.jpg")] == [None, None, None]


def test_each_folder_is_listed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    index = FolderIndex(root)
    for name in ("a.jpg", "b.jpg", "sub/b.jpg", "sub/c.jpg", "c.jpg"):
        index.problem(name)
    assert len(listed) == 2


def test_a_root_that_does_not_exist_has_no_files(tmp_path: Path) -> None:
    assert FolderIndex(tmp_path / "no").problem("a.jpg") == ("missing", "does not exist")
