"""Dataset files made to do harm: no code runs, nothing is written, nothing outside the image folder is read.

Each one ends in one sentence, or in a record without what was wrong with it.
"""

from __future__ import annotations

import io
import json
import logging
import os
import struct
import sys
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.data.build import build_detection_train_loader
from drivetrain.data.formats.coco import load_coco_json
from drivetrain.data.images import read_image
from drivetrain.data.mapper import DatasetMapper
from drivetrain.errors import DatasetError

FORBIDDEN = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "pickle.find_class",
    "socket.",
)
CHANGING = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
    "shutil.",
)


class Watch:
    """An audit hook, which cannot be taken out again, and does nothing but when it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        self.read: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            self.read.append(os.fsdecode(arguments[0]))
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                self.seen.append(f"{event} {arguments}")
        elif event.startswith((*FORBIDDEN, *CHANGING)):
            self.seen.append(f"{event} {arguments}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.seen, self.read, self.on = [], [], True
        try:
            yield
        finally:
            self.on = False


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"", extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def encoded(kind: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def bmp_header(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
    )


def jpeg_header(side: int) -> bytes:
    content = encoded("JPEG")
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", side, side) + content[at + 4 :]


# Content of a file, and what the message has to say.
IMAGES: dict[str, tuple[bytes, str]] = {
    "png bomb": (png(100_000, 100_000), "too large|pixels"),
    "png just over": (png(8_001, 8_000), "64,008,000 pixels"),
    "png of no size": (png(0, 10), "known format|damaged"),
    "png text bomb": (
        png(64, 48, zlib.compress(bytes(49 * 193)), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(300_000_000)))),
        "damaged",
    ),
    "png of other data": (png(64, 48, bytes(3000)), "damaged"),
    "jpeg bomb": (jpeg_header(65_500), "too large|pixels"),
    "jpeg cut": (cut(encoded("JPEG")), "damaged"),
    "jpeg of the start alone": (b"\xff\xd8\xff\xe0", "known format|damaged"),
    "bmp bomb": (bmp_header(100_000, 100_000), "too large|pixels"),
    "bmp cut": (bmp_header(64, 48), "damaged"),
    "gif cut": (cut(encoded("GIF")), "damaged"),
    "gif bomb": (b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b"\x2c" + bytes(20), "too large|pixels"),
    "webp cut": (cut(encoded("WEBP")), "known format|damaged"),
    "tiff cut": (cut(encoded("TIFF")), "known format|damaged"),
    "tiff that points to itself": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "known format|damaged"),
    "empty": (b"", "is empty"),
    "zeros": (bytes(10_000), "known format"),
    "svg": (b'<?xml version="1.0"?><svg onload="alert(1)"><image href="file:///etc/passwd"/></svg>', "known format"),
    "pdf": (encoded("PDF"), "known format"),
    "eps": (encoded("EPS"), "known format"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file", "known format"),
    "wmf": (b"\xd7\xcd\xc6\x9a" + bytes(60), "known format"),
    "ppm": (encoded("PPM"), "known format"),
    "ico": (encoded("ICO"), "known format"),
    "icns": (b"icns" + bytes(60), "known format"),
    "psd": (b"8BPS\0\1" + bytes(60), "known format"),
    "fits": (b"SIMPLE  =                    T" + bytes(60), "known format"),
    "jpeg 2000": (encoded("JPEG2000"), "known format"),
    "pickle": (b"cos\nsystem\n(S'touch ran'\ntR.", "known format"),
    "zip": (b"PK\x03\x04" + bytes(60), "known format"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image folder, with a secret beside it."""
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "secret.png").write_bytes(encoded("PNG"))
    (images / "good.png").write_bytes(encoded("PNG"))
    return images


def snapshot(folder: Path) -> dict[str, Any]:
    return {str(p): (p.lstat().st_mode, p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(folder.rglob("*"))}


def is_clear(text: str) -> bool:
    """Lines without control characters, which would reach a terminal, of a readable length."""
    return all(
        len(line) < 900 and not any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in line)
        for line in text.split("\n")
    )


@contextmanager
def harmless(watch: Watch, folder: Path) -> Iterator[None]:
    before = snapshot(folder)
    with watch.watching():
        yield
    assert watch.seen == []
    assert snapshot(folder) == before
    assert not any("secret" in name or "passwd" in name for name in watch.read)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", IMAGES)
def test_hostile_images(watch: Watch, root: Path, name: str) -> None:
    content, why = IMAGES[name]
    path = root / "evil.png"
    path.write_bytes(content)
    read_image(root / "good.png")  # what is loaded once is loaded
    start = time.process_time()
    with harmless(watch, root.parent), pytest.raises(DatasetError, match=rf"evil\.png.*({why})") as caught:
        read_image(path)
    assert is_clear(str(caught.value))
    assert time.process_time() - start < 20


def test_more_data_than_the_picture_needs_is_not_unpacked(root: Path) -> None:
    path = root / "deflate bomb.png"
    path.write_bytes(png(64, 48, zlib.compress(bytes(50_000_000))))
    assert not read_image(path).any()


def test_things_that_are_no_files(watch: Watch, root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    (root / "folder.png").mkdir()
    (root / "loop.png").symlink_to(root / "loop.png")
    with open(root / "huge.png", "wb") as file:
        file.truncate(2**40)  # takes no space
    names = ["pipe.png", "folder.png", "loop.png", "huge.png", "a\0b.png", "\ud800.png", "n" * 5000]
    for name in [*(str(root / n) for n in names), "/dev/zero"]:
        with harmless(watch, root.parent), pytest.raises(DatasetError, match="image '.*"):
            read_image(name)


def good() -> dict[str, Any]:
    """A sound annotation file of one image with one object."""
    return {
        "images": [{"id": 1, "file_name": "good.png", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 20], "area": 400, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "thing"}],
    }


def image(**values: Any) -> str:
    content = good()
    content["images"][0].update(values)
    return json.dumps(content)


def annotation(**values: Any) -> str:
    content = good()
    content["annotations"][0].update(values)
    return json.dumps(content)


def category(**values: Any) -> str:
    content = good()
    content["categories"][0].update(values)
    return json.dumps(content)


def named(name: str) -> str:
    return image(file_name=name)


# Content of an annotation file, and what the message has to say.
FILES: dict[str, tuple[str | bytes, str]] = {
    "absolute": (named("/etc/passwd"), "absolute"),
    "climbs": (named("../secret.png"), r"climbs out of the folder with '\.\.'"),
    "climbs inside": (named("a/../../secret.png"), "climbs out"),
    "link": (named("link.png"), "through a link"),
    "link to a folder": (named("up/secret.png"), "through a link"),
    "pipe": (named("pipe.png"), "is not a file"),
    "zero byte": (named("good.png\0.jpg"), "zero byte"),
    "control characters": (named("\x1b[2J\x1b]0;owned\x07\n\r.png"), r"\\x1b\[2J"),
    "right to left": (named("a\u202egnp.exe"), r"\\u202e"),
    "half a character": (named("\ud800/x.png"), r"\\ud800"),
    "a long name": (named("n" * 100_000), "names 'nnn"),
    "a name that is a list": (named(["good.png"]), "file_name"),  # type: ignore[arg-type]
    "a url": (named("http://example.invalid/a.png"), "does not exist"),
    "list": ("[1, 2]", "list, not an object"),
    "number": ("1e999", "number, not an object"),
    "null": ("null", "null"),
    "nested": ("[" * 200_000, "not valid JSON"),
    "nested objects": ('{"a":' * 200_000, "not valid JSON"),
    "a number of a million digits": ('{"images": ' + "9" * 1_000_000 + "}", "not valid JSON"),
    "not text": (b"\xff\xfe\x00", "not valid JSON"),
    "pickle": (b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.", "not valid JSON"),
    "yaml": ("!!python/object/apply:os.system ['touch ran']", "not valid JSON"),
    "empty": ("  \n", "is empty"),
    "a section twice": ('{"images": [], ' + json.dumps(good())[1:], "name 'images' twice"),
    "a key twice": (json.dumps(good()).replace('"bbox"', '"bbox": [0, 0, 9, 9], "bbox"'), "name 'bbox' twice"),
    "a key with control characters twice": ('{"\\u001b[2J": 1, "\\u001b[2J": 2}', r"\\x1b\[2J' twice"),
    "infinite width": (image(width=float("inf")), "'width' inf"),
    "nan height": (image(height=float("nan")), "'height' nan"),
    "a width of many digits": (image(width=10**300), "'width'"),
    "negative width": (image(width=-64), "'width' -64"),
    "an id that is a list": (image(id=[1]), "'id'"),
    "a category of control characters": (category(id="\x1b[31m"), "categories"),
    "the area is nan": (annotation(area=float("nan")), "area"),
    "the area is huge": (annotation(area=10**400), "area"),
    "a box of text": (annotation(bbox="__import__('os')"), "box"),
    "a box of many digits": (annotation(bbox=[0, 0, 10**400, 5]), "box"),
    "run lengths of another size": (annotation(segmentation={"size": [10**9, 10**9], "counts": "0"}), "run-length"),
    "run lengths that are too long": (annotation(segmentation={"size": [48, 64], "counts": [10**18]}), "add up"),
    "negative run lengths": (annotation(segmentation={"size": [48, 64], "counts": [-1, 3073]}), "counts"),
    "a category id of many digits": (annotation(category_id=10**400), "category_id"),
    "an image id that is an object": (annotation(image_id={"__class__": "x"}), "of image"),
}

SEVERAL = ("an id that is a list", "a category of control characters")  # each with an annotation that refers to it


@pytest.fixture
def traps(root: Path) -> Path:
    (root / "link.png").symlink_to(root.parent / "secret.png")
    (root / "up").symlink_to(root.parent)
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("check_images", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_hostile_annotation_files(
    watch: Watch, traps: Path, name: str, check_images: bool, caplog: pytest.LogCaptureFixture
) -> None:
    content, why = FILES[name]
    if not check_images and why in ("does not exist", "is not a file", r"\\u202e", r"\\x1b\[2J", "names 'nnn"):
        pytest.skip("says that the file does not exist")
    path = traps.parent / "evil.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with harmless(watch, traps.parent), pytest.raises(DatasetError, match=why) as caught:
        load_coco_json(path, traps, check_images=check_images)
    assert is_clear(str(caught.value))
    assert name in SEVERAL or "\n" not in str(caught.value)
    assert all(is_clear(record.getMessage()) for record in caplog.records)


# Files that load: what is wrong is left out or only shows when the image is opened.
HUGE = 1e300
LOADED: dict[str, str] = {
    "nan box": annotation(bbox=[float("nan")] * 4),
    "infinite box": annotation(bbox=[0, 0, float("inf"), 5]),
    "huge box": annotation(bbox=[-HUGE, -HUGE, 3 * HUGE, 3 * HUGE]),
    "the largest box": annotation(bbox=[1.7e308] * 4),
    "huge polygon": annotation(segmentation=[[0, 0, HUGE, 0, HUGE, HUGE]]),
    "nan polygon": annotation(segmentation=[[0, 0, float("nan"), 0, 5, 5]]),
    "negative polygon": annotation(segmentation=[[-HUGE, -HUGE, HUGE, -HUGE, 5, HUGE]]),
    "compressed run lengths that are too long": annotation(
        segmentation={"size": [48, 64], "counts": "oooooooooooo0" * 9}
    ),
    "compressed run lengths of one run": annotation(segmentation={"size": [48, 64], "counts": "0"}),
    "an id of many digits": image(id=10**300).replace('"image_id": 1', f'"image_id": {10**300}'),
    "a class name of control characters": category(name="\x1b[2J\x07thing\n"),
    "a size that is not the image's": image(width=2**31 - 1, height=2**31 - 1),
}


@pytest.mark.filterwarnings("error:overflow", "error:invalid value")
@pytest.mark.parametrize("masks", ["bitmask", "polygon", None])
@pytest.mark.parametrize("name", LOADED)
def test_what_can_be_loaded_stays_harmless(
    watch: Watch, root: Path, name: str, masks: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = root.parent / "evil.json"
    path.write_text(LOADED[name])
    mapper = DatasetMapper(
        True,
        augmentations=[],
        image_format="RGB",
        use_instance_mask=masks is not None,
        instance_mask_format=masks or "polygon",
    )
    start = time.process_time()
    caplog.set_level(logging.INFO)
    with harmless(watch, root.parent):
        try:
            records = load_coco_json(path, root)
            batch = next(build_detection_train_loader(records, mapper, total_batch_size=1))
            assert batch[0]["image"].shape == (3, 48, 64)
            instances = batch[0]["instances"]
            boxes = instances.gt_boxes.tensor
            assert bool(((boxes >= 0) & (boxes <= 64)).all()) or name == "huge polygon"
        except DatasetError as error:
            assert is_clear(str(error)), str(error)
    assert all(is_clear(record.getMessage()) for record in caplog.records)
    assert time.process_time() - start < 20


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (48, 64), "red").save(path, exif=exif)


SIZES: list[tuple[Callable[[Path], None], dict[str, int], str | None]] = [
    (turned, {"width": 64, "height": 48}, None),  # annotated as it is seen
    (
        turned,
        {"width": 48, "height": 64},
        "64 x 48 pixels, but the dataset says 48 x 64, as if .* EXIF orientation: take",
    ),
]


@pytest.mark.parametrize(("make", "size", "message"), SIZES)
def test_an_orientation_that_swaps_the_sides(
    root: Path, make: Callable[[Path], None], size: dict[str, int], message: str | None
) -> None:
    make(root / "good.png")
    path = root.parent / "a.json"
    path.write_text(image(**size))
    mapper = DatasetMapper(True, augmentations=[], image_format="RGB")
    loader = build_detection_train_loader(load_coco_json(path, root), mapper, total_batch_size=1)
    if message is None:
        assert next(loader)[0]["image"].shape == (3, 48, 64)
    else:
        with pytest.raises(DatasetError, match=message) as caught:
            next(loader)
        assert is_clear(str(caught.value))
