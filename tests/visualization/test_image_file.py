"""Pictures to files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.errors import OutputError
from drivetrain.visualization.image_file import encode_image, save_image, write_atomically

_PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_png_keeps_every_pixel(tmp_path: Path) -> None:
    path = save_image(tmp_path / "new" / "a.PNG", _PICTURE[:, ::-1])
    assert np.array_equal(np.array(Image.open(path)), _PICTURE[:, ::-1])


def test_jpeg_is_jpeg(tmp_path: Path) -> None:
    with Image.open(save_image(tmp_path / "a.jpeg", _PICTURE)) as image:
        assert (image.format, image.size) == ("JPEG", (30, 20))
    with Image.open(io.BytesIO(encode_image(_PICTURE, "JPEG"))) as image:
        assert image.format == "JPEG"


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.png, \.jpg or \.jpeg.*a\.tga"):
        save_image(tmp_path / "a.tga", _PICTURE)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"a\.png cannot be written \(No space left on device\)"):
        save_image(path, _PICTURE)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save_image(tmp_path / "file" / "a.png", _PICTURE)


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a", b"1")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
