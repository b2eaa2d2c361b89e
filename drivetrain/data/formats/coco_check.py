"""Every check of a COCO file, and the file's contents as columns once they are known to be sound."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drivetrain.data.paths import FolderIndex

from .coco_file import BoolArray, CocoFile, Section, read_coco_file
from .coco_shapes import FloatArray, check_boxes, check_keypoints, check_segmentations, is_numbers
from .defects import Defect, DefectReport, Severity
from .keypoint_pairs import flip_pairs
from .missing import missing_hint, with_slashes

__all__ = [
    "Categories",
    "CocoColumns",
    "check_annotation_entries",
    "check_categories",
    "check_coco",
    "check_coco_sections",
    "check_image_entries",
]

MAX_SIDE = 2**31 - 1


@dataclass
class Categories:
    """The classes of a file in the order of their category ids: class ``i`` of the records is ``names[i]``."""

    names: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    keypoint_names: list[str] | None = None
    keypoint_flip_map: list[tuple[str, str]] | None = None

    @property
    def index(self) -> dict[int, int]:
        """Category id in the file -> class 0, 1, ... of the records."""
        return {category_id: i for i, category_id in enumerate(self.ids)}


@dataclass
class CocoColumns:
    """A checked file as columns over its images and its annotations.

    Attributes:
        categories: the classes.
        images: the entries of the images.
        annotations: the entries of the annotations.
        keep: bool (N,), the annotations to use.
        image_of: int (N,), the place of each annotation's image in ``images``.
        class_of: int (N,), each annotation's class.
        boxes: (N, 4), x, y, width, height in pixels, within the image.
        segmentations: polygons, run-length dict or None, of each annotation.
        keypoints: flat list or None, of each annotation.
    """

    categories: Categories
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    keep: BoolArray
    image_of: np.ndarray[Any, np.dtype[np.int64]]
    class_of: np.ndarray[Any, np.dtype[np.int64]]
    boxes: FloatArray
    segmentations: list[Any]
    keypoints: list[Any]


def check_coco(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    report: DefectReport,
    *,
    check_images: bool = True,
) -> CocoColumns | None:
    """Read and check a whole COCO file; every defect goes to ``report``.

    Args:
        json_file: the annotation file.
        image_root: the folder that its ``file_name`` entries are relative to.
        report: filled.
        check_images: whether a missing image file is an error. Names that lead out of the folder always are.

    Returns:
        The columns, or None when a section could not be read (the report has the error then). They may only be used
        when the report has no errors.
    """
    file = read_coco_file(json_file, report)
    return None if file is None else check_coco_sections(file, image_root, check_images=check_images)


def check_coco_sections(
    file: CocoFile, image_root: str | os.PathLike[str], *, check_images: bool = True
) -> CocoColumns | None:
    """Check a file that was read as :func:`check_coco` does; defects go to the sections' report."""
    categories = check_categories(file.categories) if file.categories is not None else None
    if file.images is not None:
        check_image_entries(file.images, FolderIndex(image_root), check_images)
    return None if file.annotations is None else check_annotation_entries(file.annotations, file.images, categories)


def check_categories(section: Section) -> Categories:
    """The classes in the section ``categories``; what is wrong goes to its report."""
    ids, names = section.column("id"), section.column("name")
    bad = np.fromiter(
        (type(i) is not int or not isinstance(n, str) or not n for i, n in zip(ids, names, strict=True)), bool, len(ids)
    )
    section.reject(bad, "incomplete category", lambda i: "needs an integer 'id' and a 'name'")
    section.reject(_repeated(section, ids), "duplicate category id", lambda i: f"repeats the id {ids[i]}")
    section.note(
        _repeated(section, names),
        "duplicate category name",
        lambda i: f"repeats the name {names[i]!r}: give it another one, or remove it if no annotation is of it",
        Severity.ERROR,
    )
    if len(section) == 0:
        message = f"{section.report.source}: the section 'categories' is empty, so there is no class to learn"
        section.report.add(Defect("no category", "", message, Severity.ERROR))
    order = sorted(np.flatnonzero(section.ok).tolist(), key=lambda i: ids[i])
    categories = Categories([names[i] for i in order], [ids[i] for i in order])
    _read_keypoint_names(section, order, categories)
    return categories


def _read_keypoint_names(section: Section, order: list[int], categories: Categories) -> None:
    """Keypoint names and flip pairs from the first category that has them; the others must agree or have none."""
    for i in order:
        names = section.entries[i].get("keypoints")
        if not names:
            continue
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            section.reject(_only(len(section), i), "malformed category", lambda _: "has 'keypoints' that are not names")
        elif categories.keypoint_names is None:
            categories.keypoint_names = names
            categories.keypoint_flip_map = _flip_pairs(section, i, names)
        elif names != categories.keypoint_names:
            section.reject(
                _only(len(section), i),
                "differing keypoints",
                lambda _: f"has other keypoints than {categories.keypoint_names}; all classes must share one list",
            )


def _flip_pairs(section: Section, i: int, names: list[str]) -> list[tuple[str, str]] | None:
    """The category's ``keypoint_flip_map``: pairs of names that change places when an image is mirrored.

    Without one they are told from the names, as ``left_eye`` and ``right_eye``.
    """
    pairs = section.entries[i].get("keypoint_flip_map")
    if pairs is None:
        return flip_pairs(names)
    fine = isinstance(pairs, list) and all(
        isinstance(p, list) and len(p) == 2 and all(isinstance(n, str) and n in names for n in p) for p in pairs
    )
    if not fine:
        section.reject(
            _only(len(section), i),
            "malformed category",
            lambda _: "has a 'keypoint_flip_map' that is not a list of pairs of its keypoint names",
        )
        return None
    return [(a, b) for a, b in pairs]


def check_image_entries(section: Section, folder: FolderIndex, check_files: bool) -> None:
    """Check the section ``images``, and with ``check_files`` that each image is in the folder.

    Names with backslashes, as tools on Windows write them, get slashes if they are no file as they are.
    """
    _put_slashes(section, folder)
    ids, names = section.column("id"), section.column("file_name")
    widths, heights = section.column("width"), section.column("height")
    rows = list(zip(ids, names, widths, heights, strict=True))
    incomplete = np.fromiter((not _is_complete(*row) for row in rows), bool, len(rows))
    section.reject(incomplete, "incomplete image entry", lambda i: _what_is_missing(*rows[i]))
    section.reject(_repeated(section, ids), "duplicate image id", lambda i: f"repeats the id {ids[i]!r}")
    if len(section) == 0:
        message = f"{section.report.source}: the section 'images' is empty, so the dataset holds no image"
        section.report.add(Defect("no image", "", message, Severity.ERROR))
    _check_image_files(section, names, folder, check_files)


def _put_slashes(section: Section, folder: FolderIndex) -> None:
    names = section.column("file_name")
    places = [i for i, name in enumerate(names) if isinstance(name, str) and _is_of_windows(name, folder)]
    for i in places:
        section.entries[i] = {**section.entries[i], "file_name": with_slashes(names[i])}
    changed = np.zeros(len(section), dtype=bool)
    changed[places] = True
    section.note(
        changed, "backslash in file name", lambda i: f"names {names[i]!r}, which is read with slashes", Severity.FIXED
    )


def _is_of_windows(name: str, folder: FolderIndex) -> bool:
    """Whether a name has backslashes and is no file. One with a drive is absolute, and told as it is."""
    return "\\" in name and ":" not in name and folder.problem(name) is not None


def _check_image_files(section: Section, names: list[Any], folder: FolderIndex, check_files: bool) -> None:
    if check_files and len(section) and not os.path.isdir(folder.root):
        message = f"image folder {folder.root!r} does not exist"
        section.report.add(Defect("missing image folder", "", message, Severity.ERROR))
        check_files = False
    problems = {i: p for i in np.flatnonzero(section.ok).tolist() if (p := folder.problem(names[i])) is not None}

    def describe(i: int) -> str:
        return f"names {names[i]!r} in {folder.root!r}, which {problems[i][1]}{missing_hint(folder.root, names[i])}"

    for kind, title in (("unsafe", "unsafe file name"), ("missing", "missing image")):
        if kind == "missing" and not check_files:
            continue
        places = np.zeros(len(section), dtype=bool)
        places[[i for i, (found, _) in problems.items() if found == kind]] = True
        section.note(places, title, describe, Severity.ERROR)


def _is_complete(image_id: Any, name: Any, width: Any, height: Any) -> bool:
    return (
        type(image_id) in (int, str) and isinstance(name, str) and name != "" and _is_side(width) and _is_side(height)
    )


def _what_is_missing(image_id: Any, name: Any, width: Any, height: Any) -> str:
    wrong = []
    if type(image_id) not in (int, str):
        wrong.append(f"'id' {image_id!r}" if image_id is not None else "no 'id'")
    if not isinstance(name, str) or not name:
        wrong.append(f"'file_name' {name!r}" if name is not None else "no 'file_name'")
    for key, value in (("width", width), ("height", height)):
        if not _is_side(value):
            wrong.append(f"{key!r} {value!r}" if value is not None else f"no {key!r}")
    return f"has {', '.join(wrong)}; an image needs an id, a file name, and width and height in pixels"


def _is_side(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= MAX_SIDE and value == int(value)


def check_annotation_entries(
    section: Section, images: Section | None, categories: Categories | None
) -> CocoColumns | None:
    """Check the section ``annotations`` against the others; the columns, or None when one of the others is missing."""
    ids, image_ids, category_ids = (section.column(key) for key in ("id", "image_id", "category_id"))
    bad_id = np.fromiter((type(i) not in (int, str) for i in ids), bool, len(ids))
    section.reject(bad_id, "incomplete annotation", lambda i: "needs an 'id' that is a number or a string")
    duplicate = _repeated(section, ids)

    def duplicated(i: int) -> str:
        return f"repeats the id {ids[i]!r}; number the annotations so that each has an id of its own"

    section.note(duplicate, "duplicate annotation id", duplicated, Severity.ERROR)
    _check_flags(section)
    if images is None or categories is None:
        return None  # every annotation would be of an unknown image or class
    places = {k: i for i, k in enumerate(images.column("id")) if isinstance(k, Hashable)}
    image_of = _look_up(image_ids, places)
    section.reject(
        image_of < 0,
        "unknown image",
        lambda i: f"is of image {image_ids[i]!r}, which the file does not list{_other_type(image_ids[i], places)}",
    )
    class_of = _look_up(category_ids, categories.index)
    known = ", ".join(f"{i} = {n!r}" for i, n in list(zip(categories.ids, categories.names, strict=True))[:10])
    more = ", ..." if len(categories.ids) > 10 else ""
    section.reject(
        class_of < 0,
        "unknown category id",
        lambda i: (
            f"has category_id {category_ids[i]!r}, which is not among the file's categories ({known}{more})"
            f"{_other_type(category_ids[i], categories.index)}"
        ),
    )
    section.ok &= images.ok[image_of] if len(images) else False  # a broken image entry was told already
    sizes = _sizes(images)[image_of] if len(images) else np.ones((len(section), 2))
    boxes = check_boxes(section, sizes)
    segmentations = check_segmentations(section, sizes)
    names = categories.keypoint_names
    keypoints = check_keypoints(section, len(names) if names else None)
    return CocoColumns(
        categories, images.entries, section.entries, section.ok, image_of, class_of, boxes, segmentations, keypoints
    )


def _check_flags(section: Section) -> None:
    """Check what annotations may have; null stands for nothing."""
    crowd, area = section.column("iscrowd"), section.column("area")
    flags = (int, bool, float, type(None))
    bad_crowd = np.fromiter((type(c) not in flags or c not in (0, 1, None) for c in crowd), bool, len(crowd))
    section.reject(bad_crowd, "malformed iscrowd", lambda i: f"has iscrowd {crowd[i]!r}; it is 0 or 1")
    bad_area = np.fromiter((a is not None and not is_numbers([a], 1, finite=True) for a in area), bool, len(area))
    section.reject(bad_area, "malformed area", lambda i: f"has the area {area[i]!r}; it is a number of pixels")


def _sizes(images: Section) -> FloatArray:
    """(N, 2) width and height of each image; 1 where the entry is broken."""
    rows = zip(images.column("width"), images.column("height"), images.ok.tolist(), strict=True)
    return np.array([(w, h) if ok else (1, 1) for w, h, ok in rows], dtype=np.float64).reshape(-1, 2)


def _look_up(keys: list[Any], places: dict[Any, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The place of each key, -1 for what is not there."""
    plain = (int, str, float)
    return np.fromiter((places.get(k, -1) if type(k) in plain else -1 for k in keys), np.int64, len(keys))


def _other_type(key: Any, places: Mapping[Any, int]) -> str:
    """A hint where a number is given as text, or the other way round."""
    same = (k for k in places if type(k) is not type(key) and str(k) == str(key))
    other = next(same, None)
    kind = "a text" if isinstance(other, str) else "a number"
    return f"; it lists {other!r}, {kind}" if other is not None else ""


def _repeated(section: Section, values: list[Any]) -> BoolArray:
    """The still good entries whose value an earlier good entry has already."""
    marks = np.zeros(len(values), dtype=bool)
    if section.ok.all() and len(set(values)) == len(values):
        return marks
    good = np.flatnonzero(section.ok).tolist()
    counts = Counter(values[i] for i in good)
    seen: set[Any] = set()
    for i in good:
        if counts[values[i]] > 1:
            marks[i] = values[i] in seen
            seen.add(values[i])
    return marks


def _only(length: int, place: int) -> BoolArray:
    marks = np.zeros(length, dtype=bool)
    marks[place] = True
    return marks
