"""Large COCO files read piece by piece: their records one after the other, in memory for the pieces at hand.

A first pass notes where in the file each image and each annotation stands, and which image each annotation is of. A
second one takes some images at a time, with their annotations wherever these stand, and sends them through the checks
of every COCO file. What is unusual (a malformed file, ids that come twice or are not numbers, ...) is left to the
reader that sees the whole file at once, and can tell all that is wrong with it.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from drivetrain.data.paths import FolderIndex

from .coco_check import Categories, CocoColumns, check_annotation_entries, check_categories, check_image_entries
from .coco_file import Section, parse_json
from .defects import DefectReport

__all__ = ["CocoStream", "scan_coco"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]

_WINDOW = 1 << 24  # bytes of the file in memory as text, in the first pass
_IMAGES = 4096  # images at a time, in the second
_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


@dataclass
class CocoStream:
    """A COCO file of which is known where everything stands.

    Attributes:
        path: the file.
        categories: the entries of the categories.
        images: (N, 2), begin and end of each image's entry in the file, in the order of the image ids.
        image_places: (N,), the place of each of these in its section.
        annotations: (M, 2), begin and end of each annotation's entry, in the order of the images and of the file.
        annotation_places: (M,), the place of each of these in its section.
        first: (N + 1,), each image's first annotation.
    """

    path: str
    categories: list[Any]
    images: IntArray
    image_places: IntArray
    annotations: IntArray
    annotation_places: IntArray
    first: IntArray

    def columns(
        self, image_root: str | os.PathLike[str], report: DefectReport, *, check_images: bool = True
    ) -> Iterator[CocoColumns]:
        """The checked contents, some images at a time; what is wrong goes to ``report``.

        Raises:
            ValueError: an entry is not what the first pass took it for.
        """
        categories = check_categories(Section("categories", self.categories, report))
        folder = FolderIndex(image_root)
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for start in range(0, len(self.images), _IMAGES):
                stop = min(start + _IMAGES, len(self.images))
                yield self._some(content, start, stop, categories, folder, report, check_images)

    def _some(
        self,
        content: mmap.mmap,
        start: int,
        stop: int,
        categories: Categories,
        folder: FolderIndex,
        report: DefectReport,
        check_images: bool,
    ) -> CocoColumns:
        some = slice(int(self.first[start]), int(self.first[stop]))
        images = Section(
            "images", _entries(content, self.images[start:stop]), report, self.image_places[start:stop].tolist()
        )
        annotations = Section(
            "annotations", _entries(content, self.annotations[some]), report, self.annotation_places[some].tolist()
        )
        check_image_entries(images, folder, check_images)
        columns = check_annotation_entries(annotations, images, categories)
        if columns is None:
            raise ValueError("there are images and categories")
        return columns


def _entries(content: mmap.mmap, spans: IntArray) -> list[Any]:
    entries: list[Any] = parse_json(b"[" + b",".join([content[a:b] for a, b in spans.tolist()]) + b"]")
    return entries


class _UnusualError(ValueError):
    """The file is not one that can be read piece by piece."""


def scan_coco(path: str | os.PathLike[str]) -> CocoStream | None:
    """Find out where everything stands in a COCO file; None for one that has to be looked at as a whole."""
    found = _Found()
    try:
        with open(path, "rb") as file:
            found.read(_Text(file, os.fstat(file.fileno()).st_size))
        return found.stream(os.fspath(path))
    except (OSError, ValueError, OverflowError, RecursionError):
        return None


class _Found:
    """What the first pass collects."""

    def __init__(self) -> None:
        self.categories: list[Any] | None = None
        self.sections: set[str] = set()
        self.has_keypoints = False
        self.ids = {"images": array("q"), "annotations": array("q")}
        self.spans = {"images": array("q"), "annotations": array("q")}
        self.image_ids = array("q")

    def read(self, text: _Text) -> None:
        """Go through the whole file."""
        text.skip("{")
        while True:
            name, _, _ = text.value()
            text.skip(":")
            if not isinstance(name, str) or name in self.sections:
                raise _UnusualError
            self.sections.add(name)
            if name in self.ids:
                self._read_section(name, text)
            else:
                value, _, _ = text.value()
                if name == "categories":
                    self.categories = value
            if text.skip(",", "}") == "}":
                break
        if text.peek():
            raise _UnusualError

    def _read_section(self, name: str, text: _Text) -> None:
        text.skip("[")
        while True:
            entry, begin, end = text.value()
            self._note(name, entry)
            self.spans[name].extend((begin, end))
            if text.skip(",", "]") == "]":
                return

    def _note(self, name: str, entry: Any) -> None:
        if type(entry) is not dict or type(entry.get("id")) is not int:
            raise _UnusualError
        self.ids[name].append(entry["id"])
        if name == "annotations":
            if type(entry.get("image_id")) is not int:
                raise _UnusualError
            self.image_ids.append(entry["image_id"])
            self.has_keypoints |= bool(entry.get("keypoints"))

    def stream(self, path: str) -> CocoStream:
        """All of it, in order."""
        categories = self.categories
        if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
            raise _UnusualError
        if not {"images", "annotations"} <= self.sections:
            raise _UnusualError
        if self.has_keypoints and not any(c.get("keypoints") for c in categories):
            raise _UnusualError  # how many there are is seen from all annotations together
        ids, annotation_ids = (np.frombuffer(self.ids[name], np.int64) for name in ("images", "annotations"))
        order = np.argsort(ids, kind="stable")
        ordered = ids[order]
        if (np.diff(ordered) == 0).any() or (np.diff(np.sort(annotation_ids)) == 0).any():
            raise _UnusualError
        of = np.frombuffer(self.image_ids, np.int64)
        image_of = np.searchsorted(ordered, of).clip(max=len(ordered) - 1)
        if (ordered[image_of] != of).any():
            raise _UnusualError
        by_image = np.argsort(image_of, kind="stable")
        first = np.searchsorted(image_of[by_image], np.arange(len(ids) + 1))
        images, annotations = (np.frombuffer(self.spans[n], np.int64).reshape(-1, 2) for n in ("images", "annotations"))
        return CocoStream(path, categories, images[order], order, annotations[by_image], by_image, first)


class _Text:
    """A JSON file of which a window is in memory, as text of one character a byte.

    Structure and numbers are ASCII; text beyond it is read as something else, which does not matter here.
    """

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._length = file, length
        self._text, self._start = "", 0  # of the window
        self._place = 0  # in the file

    def _load(self, size: int) -> None:
        self._file.seek(self._place)
        self._text, self._start = self._file.read(size).decode("latin-1"), self._place

    def _is_last(self) -> bool:
        return self._start + len(self._text) >= self._length

    def peek(self) -> str:
        """The next character that is not space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._place - self._start)
            at = match.end() if match else 0
            self._place = self._start + at
            if at < len(self._text):
                return self._text[at]
            if self._is_last():
                return ""
            self._load(_WINDOW)

    def skip(self, *expected: str) -> str:
        """Skip the next character, which has to be one of ``expected``."""
        found = self.peek()
        if found not in expected:
            raise _UnusualError
        self._place += 1
        return found

    def value(self) -> tuple[Any, int, int]:
        """The next value, and where it begins and ends in the file."""
        self.peek()
        size = _WINDOW
        while True:
            try:
                value, end = _decode(self._text, self._place - self._start)
                if end < len(self._text) or self._is_last():
                    break
            except ValueError:  # it may go on behind the window
                if self._is_last():
                    raise
            size = size * 2 if self._place == self._start else size
            self._load(size)
        begin, self._place = self._place, self._start + end
        return value, begin, self._place
