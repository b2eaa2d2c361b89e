from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from drivetrain.data.formats.folder_files import (
    image_size,
    is_passed_over,
    list_files,
    read_bytes,
    read_lines,
    stem_index,
)
from drivetrain.data.images import UnreadableImageError, read_image
from drivetrain.errors import DatasetError

Draw = Callable[..., Path]


def test_files_below_a_folder_by_their_ends(tmp_path: Path) -> None:
    for name in (
        "b.JPG",
        "a.png",
        "sub/c.jpg",
        ".hidden.jpg",
        ".git/x.jpg",
        "a.txt",
        "sub/deep/d_mask.png",
        "__MACOSX/x.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list_files(tmp_path, (".jpg", ".png")) == ["a.png", "b.JPG", "sub/c.jpg", "sub/deep/d_mask.png"]
    assert list_files(tmp_path, ("_mask.png",)) == ["sub/deep/d_mask.png"]
    assert list_files(tmp_path, (".jpg",), recursive=False) == ["b.JPG"]
    assert list_files(tmp_path / "none", (".jpg",)) == []
    assert [n for n in (".git", "._a.jpg", "__MACOSX", "@eaDir", "cat", "_x") if not is_passed_over(n)] == ["cat", "_x"]


def test_linked_folders_are_not_entered(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "loop").symlink_to(tmp_path)
    (tmp_path / "x.jpg").touch()
    assert list_files(tmp_path / "data", (".jpg",)) == []


def test_stems() -> None:
    assert stem_index(["b/x.png", "a.png", "a.jpg"]) == {"a": "a.jpg", "b/x": "b/x.png"}


def test_a_small_file_is_read_and_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n  two \n")
    assert read_lines(path, 100) == ["one", "two", ""]
    with pytest.raises(DatasetError, match=r"a\.txt' has 15 bytes, more than the 10 that"):
        read_bytes(path, 10)
    with pytest.raises(DatasetError, match="does not exist"):
        read_bytes(tmp_path / "b.txt", 10)
    with pytest.raises(DatasetError, match="not a file"):
        read_bytes(tmp_path, 10)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_bytes(str(tmp_path / "a\0b"), 10)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match=r"not a text file \(UTF-8\)"):
        read_lines(path, 10)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for read in (lambda p: read_bytes(p, 10), image_size):
        with pytest.raises(DatasetError, match="not a file"):
            read(tmp_path / "pipe.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_size_is_that_of_the_upright_image(tmp_path: Path, draw: Draw, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = draw(tmp_path / f"a.{suffix}", 30, 20, exif=exif)
    assert image_size(path) == read_image(path).shape[:2]


def test_images_that_cannot_be_measured(tmp_path: Path, draw: Draw) -> None:
    with pytest.raises(UnreadableImageError, match="does not exist"):
        image_size(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"b\.jpg' is not an image of a known format"):
        image_size(tmp_path / "b.jpg")
    with pytest.raises(UnreadableImageError, match=r"20 x 10 = 200 pixels, over the limit of 100"):
        image_size(draw(tmp_path / "c.jpg"), max_pixels=100)
