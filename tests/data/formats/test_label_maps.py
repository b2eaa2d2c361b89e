from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from drivetrain.data.formats.label_maps import read_label_map, read_panoptic_map, write_label_map, write_panoptic_map
from drivetrain.data.images import UnreadableImageError

LABELS = np.array([[0, 1, 2], [255, 7, 30]], dtype=np.uint8)


def grey_png(rows: np.ndarray[Any, Any], bits: int) -> bytes:
    """A PNG of grey levels of 1, 2, 4, 8 or 16 bits, written by hand."""
    if bits == 16:
        packed = [row.astype(">u2").tobytes() for row in rows]
    else:
        digits = [((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).ravel() for row in rows]
        packed = [np.packbits(d).tobytes() for d in digits]
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_levels_of_any_number_of_bits_are_the_labels(tmp_path: Path, bits: int) -> None:
    rows = np.arange(2 * 19).reshape(2, 19) * (977 if bits == 16 else 1) % (1 << bits)
    (tmp_path / "a.png").write_bytes(grey_png(rows, bits))
    labels = read_label_map(tmp_path / "a.png")
    assert np.array_equal(labels, rows)
    assert labels.dtype == (np.uint16 if bits == 16 else np.uint8)


def test_the_places_in_a_palette_are_the_labels(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS)
    image.putpalette([i * 37 % 256 for i in range(768)])  # "P" from here on
    assert image.mode == "P"
    for name in ("a.png", "a.bmp", "a.tif"):
        image.save(tmp_path / name)
        assert np.array_equal(read_label_map(tmp_path / name), LABELS)
    small = Image.fromarray(LABELS % 3).convert("P")
    small.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    small.save(tmp_path / "b.png", bits=2)
    assert np.array_equal(read_label_map(tmp_path / "b.png"), LABELS % 3)


@given(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_label_maps_come_back(tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray[Any, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.png"
    write_label_map(path, labels)
    assert np.array_equal(read_label_map(path), labels)
    write_label_map(path, (labels & 255).astype(np.uint8))
    assert np.array_equal(read_label_map(path), labels & 255)


@given(arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2**24 - 1)))
def test_panoptic_maps_come_back(tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray[Any, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "panoptic.png"
    write_panoptic_map(path, ids)
    assert np.array_equal(read_panoptic_map(path), ids)
    colours = np.asarray(Image.open(path)).astype(np.int64)
    assert np.array_equal(colours @ np.array([1, 256, 65536]), ids)


def test_what_is_no_map_is_refused_when_writing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8 or uint16"):
        write_label_map(tmp_path / "a.png", LABELS.astype(np.int64))
    for wrong in (LABELS[None], np.array([[-1]]), np.array([[1 << 24]])):
        with pytest.raises(ValueError, match="segment ids are"):
            write_panoptic_map(tmp_path / "a.png", wrong)
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_maps(tmp_path: Path) -> None:
    colour = tmp_path / "colour.png"
    Image.fromarray(np.zeros((2, 3, 3), dtype=np.uint8)).save(colour)
    with pytest.raises(UnreadableImageError, match=r"colour\.png' has the mode 'RGB'; it must have a palette"):
        read_label_map(colour)
    grey = tmp_path / "grey.png"
    write_label_map(grey, LABELS)
    with pytest.raises(UnreadableImageError, match=r"grey\.png' has the mode 'L'; it must be in colour"):
        read_panoptic_map(grey)
    Image.fromarray(LABELS).save(tmp_path / "lossy.jpg")
    with pytest.raises(UnreadableImageError, match="is no image of PNG, TIFF, BMP"):
        read_label_map(tmp_path / "lossy.jpg")
    Image.fromarray(np.full((2, 2), 70_000, dtype=np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(UnreadableImageError, match="do not fit into 16 bits"):
        read_label_map(tmp_path / "wide.tif")
    grey.write_bytes(grey.read_bytes()[:50])
    with pytest.raises(UnreadableImageError, match="is damaged or truncated"):
        read_label_map(grey)
    with pytest.raises(UnreadableImageError, match="does not exist"):
        read_label_map(tmp_path / "none.png")


def test_a_small_file_that_claims_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(
        grey_png(np.zeros((1, 8), dtype=np.int64), 8).replace(
            struct.pack(">II", 8, 1), struct.pack(">II", 60_000, 60_000)
        )
    )
    with pytest.raises(UnreadableImageError, match=r"bomb\.png"):
        read_label_map(path)
    write_label_map(path, np.zeros((20, 20), dtype=np.uint8))
    with pytest.raises(UnreadableImageError, match="20 x 20 = 400 pixels, over the limit of 399"):
        read_label_map(path, max_pixels=399)
