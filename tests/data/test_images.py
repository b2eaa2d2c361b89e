from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from drivetrain.data import images
from drivetrain.data.images import (
    ImageFile,
    UnreadableImageError,
    check_image_size,
    convert_PIL_to_numpy,
    read_image,
)
from drivetrain.errors import DatasetError


def picture(width: int = 37, height: int = 23, mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 5 + c) * np.cos(y / (3 + c)) * 120 + 128 for c in range(3)]
    return Image.fromarray(np.stack(waves, axis=2).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif"])
def test_lossless_formats_give_back_the_pixels(tmp_path: Path, suffix: str) -> None:
    image = picture().quantize(64).convert("RGB")
    path = tmp_path / f"a.{suffix}"
    image.save(path, **({"lossless": True} if suffix == "webp" else {}))
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.flags["C_CONTIGUOUS"] and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, np.asarray(image))


def test_channel_orders(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = picture()
    image.save(path)
    rgb = read_image(path, "RGB")
    np.testing.assert_array_equal(read_image(path, "BGR"), rgb[:, :, ::-1])
    np.testing.assert_array_equal(read_image(path, "L"), np.asarray(image.convert("L"))[:, :, None])
    np.testing.assert_array_equal(read_image(path, None), rgb)


def test_an_unknown_channel_order_is_named() -> None:
    with pytest.raises(DatasetError, match=r"'BRG' is unknown; did you mean .*'BGR'"):
        read_image("a.png", "BRG")


JPEGS = {
    "444": {"subsampling": 0},
    "422": {"subsampling": 1},
    "420": {"subsampling": 2, "quality": 60},
    "progressive": {"progressive": True},
    "rgb": {"keep_rgb": True},
    "restart": {"restart_marker_blocks": 3},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("size", [(37, 23), (64, 48), (1, 1), (9, 200)])
def test_the_fast_jpeg_path_gives_pillows_pixels(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    pytest.importorskip("simplejpeg")
    path = tmp_path / "a.jpg"
    picture(*size).save(path, **JPEGS[kind])
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(read_image(path, "BGR"), expected[:, :, ::-1])
    grey = np.asarray(Image.open(path).convert("L"))[:, :, None]
    np.testing.assert_array_equal(read_image(path, "L"), grey)


@pytest.fixture
def no_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where it is not installed: it is not found, and importing it fails."""
    images._has_simplejpeg.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(images.importlib.util, "find_spec", lambda name: None)
        patch.setitem(sys.modules, "simplejpeg", None)
        yield
    images._has_simplejpeg.cache_clear()


@pytest.mark.usefixtures("no_simplejpeg")
def test_jpegs_are_read_without_simplejpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture(200, 150).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(read_image(path, "BGR"), expected[:, :, ::-1])
    np.testing.assert_array_equal(ImageFile(path).tensor().permute(1, 2, 0).numpy(), expected)
    assert ImageFile(path).tensor((75, 100)).shape == (3, 75, 100)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableImageError, match=r"a\.jpg' is damaged or truncated"):
        read_image(path)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_odd_jpegs(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.jpg"
    picture(mode=mode).save(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    assert read_image(path, "L").shape == (23, 37, 1)
    assert read_image(path, None).shape[2] == (1 if mode == "L" else 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.flags["C_CONTIGUOUS"]
    assert pixels.shape == ((37, 23, 3) if orientation >= 5 else (23, 37, 3))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_modes_become_colour_or_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    image = picture().convert("RGB").convert(mode)
    image.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))
    assert read_image(path, None).shape[2] == (1 if mode in ("1", "L", "LA") else 3)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path, suffix: str) -> None:
    values = (np.arange(12 * 10, dtype=np.uint16) * 540).reshape(10, 12)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path)
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels[:, :, 1], (values >> 8).astype(np.uint8))
    assert pixels.shape == (10, 12, 3)


def test_float_images_are_refused_with_the_file_named(tmp_path: Path) -> None:
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(path)
    with pytest.raises(DatasetError, match=r"depth\.tiff.*'F'"):
        read_image(path)


def test_gif_gives_its_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(path)[0, 0], [255, 0, 0])


def test_a_header_that_claims_too_many_pixels_is_refused_before_decoding(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(DatasetError, match=r"bomb\.png.*81,000,000 pixels.*64,000,000"):
        read_image(path)
    path.write_bytes(path.read_bytes().replace(struct.pack(">II", 9000, 9000), struct.pack(">II", 60000, 60000)))
    with pytest.raises(DatasetError, match=r"bomb\.png"):
        read_image(path)
    small = tmp_path / "small.png"
    picture(20, 10).save(small)
    assert read_image(small, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(DatasetError, match="20 x 10 = 200 pixels, over the limit of 199"):
        read_image(small, max_pixels=199)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "gif", "tiff"])
def test_truncated_files_are_named(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    picture(200, 150).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(DatasetError, match=rf"cut\.{suffix}"):
        read_image(path)


@pytest.mark.parametrize("place", range(5))
def test_a_png_with_a_changed_byte_is_not_read_as_something_else(tmp_path: Path, place: int) -> None:
    """Looking for its orientation decodes a PNG: the error of that must not get lost."""
    path = tmp_path / "flip.png"
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[200 + place * 2000] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"flip\.png.*damaged"):
        read_image(path)


def test_pipes_and_oversized_files_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableImageError, match="it is not a file"):
        read_image(tmp_path / "pipe.png")
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(UnreadableImageError, match=r"huge\.png' has 1,099,511,627,776 bytes, more than"):
        read_image(tmp_path / "huge.png")


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "is empty"), (b"no image", "known format"), (b"\xff\xd8\xff", "known format|damaged")]
)
def test_what_is_no_image_is_said(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=why):
        read_image(path)


def test_formats_that_run_programs_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(DatasetError, match="known format"):
        read_image(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        read_image(tmp_path / "no.jpg")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [  # (height, width)
        ((96, 128), None, (96, 128)),
        ((96, 128), (49, 60), (96, 128)),
        ((96, 128), (48, 64), (48, 64)),
        ((96, 128), (30, 32), (48, 64)),
        ((96, 128), (24, 32), (24, 32)),
        ((96, 128), (1, 1), (12, 16)),
        ((95, 121), (48, 61), (48, 61)),
        ((9, 3), (1, 1), (5, 2)),
        ((2, 3), (1, 2), (1, 2)),
    ],
)
def test_the_decoder_scales_a_jpeg_down_and_not_too_far(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fast: bool,
    size: tuple[int, int],
    at_least: tuple[int, int] | None,
    expected: tuple[int, int],
) -> None:
    if fast:
        pytest.importorskip("simplejpeg")
    else:
        monkeypatch.setattr(images, "_has_simplejpeg", lambda: False)
    path = tmp_path / "a.jpg"
    picture(size[1], size[0]).save(path, quality=95)
    file = ImageFile(path)
    assert file.size == size
    pixels = file.tensor(at_least)
    assert tuple(pixels.shape) == (3, *expected)
    with Image.open(path) as image:
        part = round(size[0] / expected[0])
        image.draft(None, (size[1] // part, size[0] // part))
        np.testing.assert_array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(image))
    np.testing.assert_array_equal(file.tensor().permute(1, 2, 0).numpy(), read_image(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_scaled_down_too(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(80, 48).save(path, exif=exif)
    file = ImageFile(path, "BGR")
    upright = (80, 48) if orientation >= 5 else (48, 80)
    assert file.size == upright == read_image(path).shape[:2]
    with Image.open(path) as image:
        image.draft(None, (40, 24))
        expected = np.asarray(ImageOps.exif_transpose(image))[:, :, ::-1]
    half = (upright[0] // 2, upright[1] // 2)
    np.testing.assert_array_equal(file.tensor(half).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_odd_jpegs_are_scaled_down_too(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.jpg"
    picture(80, 48, mode).save(path)
    with Image.open(path) as image:
        image.draft(None, (40, 24))
        colours = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(ImageFile(path).tensor((24, 40)).permute(1, 2, 0).numpy(), colours)
    assert tuple(ImageFile(path, "L").tensor((24, 40)).shape) == (1, 24, 40)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif"])
def test_other_formats_are_decoded_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    picture(80, 48).save(path)
    file = ImageFile(path)
    assert file.size == (48, 80)
    np.testing.assert_array_equal(file.tensor((6, 10)).permute(1, 2, 0).numpy(), read_image(path))


def test_the_header_of_a_jpeg_is_enough_for_its_size(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    buffer = io.BytesIO()
    picture(200, 150).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    file = ImageFile(path)
    assert file.size == (150, 200)
    check_image_size({"file_name": "cut.jpg", "height": 150, "width": 200}, file)
    with pytest.raises(DatasetError, match="'cut.jpg' is 200 x 150 pixels"):
        check_image_size({"file_name": "cut.jpg", "height": 150, "width": 201}, file)
    for at_least in (None, (10, 10)):
        with pytest.raises(UnreadableImageError, match=r"cut\.jpg' is damaged or truncated"):
            file.tensor(at_least)


def test_convert_takes_images_in_memory() -> None:
    image = picture()
    np.testing.assert_array_equal(convert_PIL_to_numpy(image, "BGR"), np.asarray(image)[:, :, ::-1])
    assert convert_PIL_to_numpy(image.convert("L"), None).shape == (23, 37, 1)


def test_check_image_size_names_both_sizes() -> None:
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    check_image_size({"file_name": "a.jpg", "height": 20, "width": 30}, image)
    check_image_size({"file_name": "a.jpg"}, image)
    with pytest.raises(DatasetError, match=r"'a\.jpg' is 30 x 20 pixels, but the dataset says 31 x 20$"):
        check_image_size({"file_name": "a.jpg", "height": 20, "width": 31}, image)
    with pytest.raises(DatasetError, match="EXIF"):
        check_image_size({"file_name": "a.jpg", "height": 30, "width": 20}, image)


def test_a_real_photograph(bccd: Path) -> None:
    path = bccd / "images" / "BloodImage_00000.jpg"
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))
