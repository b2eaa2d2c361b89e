from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from drivetrain.data.formats.missing import missing_hint, with_slashes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder ``data/images`` with two files and a folder."""
    folder = tmp_path / "data" / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jpg", unicodedata.normalize("NFD", "é.jpg")):
        (folder / name).touch()
    (tmp_path / "secret.jpg").touch()
    return folder


def test_names_of_windows() -> None:
    assert with_slashes(r"images\1\a b.jpg") == "images/1/a b.jpg" and with_slashes("a/b.jpg") == "a/b.jpg"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("s3://bucket/a.jpg", "; it is an address: download the images, and name the files"),
        ("train/a.jpg", "; there is 'a.jpg': name the files relative to the folder"),
        ("/somewhere/else/sub/b.jpg", "; there is 'sub/b.jpg': name the files relative to the folder"),
        (r"C:\data\sub\b.jpg", "; there is 'sub/b.jpg': name the files relative to the folder"),
        ("/somewhere/x.jpg", "; name the files relative to the folder"),
        (r"C:\x.jpg", "; it is an absolute path: name the files relative to the folder"),
        (r"\\server\share\x.jpg", "; it is an absolute path: name the files relative to the folder"),
        ("A.JPG", "; there is 'a.jpg', spelled otherwise"),
        ("sub/B.jpg", "; there is 'b.jpg', spelled otherwise"),
        ("\xe9.jpg", "; there is 'e\\u0301.jpg', spelled otherwise"),
        ("x.jpg", ""),
        ("none/x.jpg", ""),
        ("../../secret.JPG", ""),
        ("x/../../../secret.jpg", ""),
    ],
)
def test_what_may_be_meant(root: Path, name: str, hint: str) -> None:
    assert missing_hint(str(root), name) == hint


def test_names_relative_to_a_folder_above(root: Path) -> None:
    assert (
        missing_hint(str(root), "images/a.jpg") == f"; it is there if the folder of the images is {str(root.parent)!r}"
    )
    above = str(root.parent.parent)
    assert missing_hint(str(root), "data/images/sub/b.jpg").endswith(f"is {above!r}")
    assert missing_hint(str(root), "other/images/a.jpg") == "; there is 'a.jpg': name the files relative to the folder"
