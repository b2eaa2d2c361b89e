"""COCO panoptic segmentation: a JSON file with the segments of each image, and a PNG with their pixels.

The format is the one of https://cocodataset.org/#format-data: ``annotations`` has one entry for each image, with the
``file_name`` of the PNG and ``segments_info``; categories have ``isthing``. What is registered and what records hold
follows detectron2's "standard" panoptic datasets: classes are counted over all categories, things and stuff together.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.data.images import UnreadableImageError
from drivetrain.data.paths import FolderIndex
from drivetrain.errors import DatasetError

from .coco_check import Categories, check_categories, check_image_entries
from .coco_file import CocoFile, Section, paused_gc, read_coco_file
from .coco_shapes import is_numbers
from .defects import Defect, DefectReport, Severity, first_repeated
from .entry import ReadDataset, checked_path, fill_metadata, finish_report, register_dataset
from .label_maps import read_panoptic_map
from .sem_seg import IGNORE_LABEL, spread_sample

__all__ = ["check_panoptic_maps", "load_coco_panoptic_json", "read_coco_panoptic", "register_coco_panoptic"]

logger = logging.getLogger(__name__)

_MOST_MAPS = 200  # whose pixels are looked at when a dataset is loaded
_MOST_IDS = 1 << 24
_ID_MAPS = ("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id")


def load_coco_panoptic_json(
    json_file: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    gt_dir: str | os.PathLike[str],
    meta: Mapping[str, Any] | None = None,
    *,
    dataset_name: str | None = None,
    max_examples: int = 5,
) -> list[dict[str, Any]]:
    """The records of a COCO panoptic file, one for each image that has an annotation, in the order of the image ids.

    A record has ``file_name``, ``pan_seg_file_name``, ``image_id``, ``height``, ``width`` and ``segments_info``: dicts
    with ``id`` (as in the PNG), ``category_id`` (0, 1, ... over all categories in the order of their ids), ``isthing``,
    ``iscrowd``, and where the file has them ``bbox`` (x, y, width, height in pixels) and ``area``.

    Args:
        json_file: the annotation file.
        image_dir: the folder of the images.
        gt_dir: the folder of the PNGs.
        meta: with ``thing_dataset_id_to_contiguous_id`` and ``stuff_dataset_id_to_contiguous_id``, other classes than
            those told above.
        dataset_name: when given, the class names and the mapping of category ids go to its metadata.
        max_examples: how many defects of each kind an error or warning tells word for word.

    Raises:
        DatasetError: the files are missing, malformed or inconsistent; the message has every error found. The pixels of
            up to 200 PNGs are compared with their segments.
    """
    report = DefectReport(os.fspath(json_file), max_examples)
    read = read_coco_panoptic(json_file, image_dir, gt_dir, report, meta)
    if read is not None and not report.has_errors:
        check_panoptic_maps(read.records, report, _MOST_MAPS)
    read = finish_report(report, read, logger)
    fill_metadata(dataset_name, read.metadata, report.source)
    return read.records


def register_coco_panoptic(
    name: str,
    metadata: Mapping[str, Any],
    image_root: str | os.PathLike[str],
    panoptic_root: str | os.PathLike[str],
    panoptic_json: str | os.PathLike[str],
    instances_json: str | os.PathLike[str] | None = None,
) -> None:
    """Register a COCO panoptic dataset. Its files are read when its records are asked for.

    Args:
        name: the dataset's name.
        metadata: further metadata; may be empty. Classes and category ids that are not in it are the file's.
        image_root: the folder of the images.
        panoptic_root: the folder of the PNGs.
        panoptic_json: the annotation file.
        instances_json: the annotation file of the same images' instances, if there is one, to evaluate boxes and masks.

    Raises:
        DatasetError: the name is taken, or an argument has the wrong type.
    """
    images, maps = checked_path(image_root, "image_root", name), checked_path(panoptic_root, "panoptic_root", name)
    path = checked_path(panoptic_json, "panoptic_json", name)
    if not isinstance(metadata, Mapping):
        raise DatasetError(f"the metadata of dataset {name!r} must be a mapping, not {metadata!r}; {{}} is fine")
    load = functools.partial(load_coco_panoptic_json, path, images, maps, dict(metadata), dataset_name=name)
    found = {
        "panoptic_root": maps,
        "panoptic_json": path,
        "image_root": images,
        "json_file": None if instances_json is None else checked_path(instances_json, "instances_json", name),
        "evaluator_type": "coco_panoptic_seg",
        "ignore_label": IGNORE_LABEL,
        "label_divisor": 1000,
    }
    register_dataset(name, load, {**found, **metadata})


def read_coco_panoptic(
    json_file: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    gt_dir: str | os.PathLike[str],
    report: DefectReport,
    meta: Mapping[str, Any] | None = None,
    *,
    with_entries: bool = False,
) -> ReadDataset | None:
    """Read as :func:`load_coco_panoptic_json` does, but for the pixels; every defect goes to ``report``.

    With ``with_entries``, records and segments have under ``entry`` what the file says of them, and records under
    ``map_entry`` the file's annotation.

    Returns:
        None when there is nothing to read. The records may only be used when the report has no errors.
    """
    with paused_gc():
        file = read_coco_file(json_file, report)
        if file is None or file.images is None or file.annotations is None or file.categories is None:
            return None
        categories = check_categories(file.categories)
        found = _metadata(file.categories, categories)
        check_image_entries(file.images, FolderIndex(image_dir), True)
        image_of = _check_annotations(file, FolderIndex(gt_dir))
        if meta is not None and all(key in meta for key in _ID_MAPS):
            labels, found = _labels(meta), {}
        else:
            labels = _labels(found)
        segments = _segments(file.annotations, labels, with_entries)
        roots = os.fspath(image_dir), os.fspath(gt_dir)
        records = _records(file, image_of, segments, roots, with_entries)
        return ReadDataset(records, roots[0], found, {**file.others, "categories": file.categories.entries})


def check_panoptic_maps(records: Sequence[Mapping[str, Any]], report: DefectReport, most: int) -> None:
    """Report PNGs of another size than their image, with pixels of unknown segments, or without any of a segment.

    Args:
        records: with ``pan_seg_file_name`` and ``segments_info``.
        report: filled.
        most: how many PNGs are read at most, spread evenly over the records.
    """
    for record in spread_sample(records, most):
        path = record["pan_seg_file_name"]
        try:
            ids = read_panoptic_map(path)
        except UnreadableImageError as err:
            report.error("unreadable label map", str(err))
            continue
        if ids.shape != (record["height"], record["width"]):
            size = f"{record['width']} x {record['height']}"
            text = f"has {ids.shape[1]} x {ids.shape[0]} pixels (width x height), but its image has {size}"
            report.error("size of label map", text, repr(path))
        seen, told = set(np.unique(ids).tolist()) - {0}, {s["id"] for s in record["segments_info"]}
        if seen - told:
            report.error("unknown segment", f"has pixels of {_some(seen - told)}, not in 'segments_info'", repr(path))
        for key in sorted(told - seen):
            text = f"has no pixel of segment {key}"
            report.add(Defect("segment without pixels", repr(path), text, Severity.DROPPED))


def _metadata(section: Section, categories: Categories) -> dict[str, Any]:
    """Names and ids over all categories; the id maps tell things and stuff apart."""
    flags = section.column("isthing")
    bad = np.fromiter((type(f) not in (int, bool) or f not in (0, 1) for f in flags), bool, len(flags))
    section.reject(bad, "incomplete category", lambda i: f"has isthing {flags[i]!r}; it is 1 for things, 0 for stuff")
    is_thing = {section.entries[i]["id"]: bool(flags[i]) for i in np.flatnonzero(section.ok).tolist()}
    kinds = (True, False)
    things, stuff = ({c: i for c, i in categories.index.items() if is_thing.get(c) is kind} for kind in kinds)
    names = {"thing_classes": categories.names, "stuff_classes": list(categories.names)}
    return {**names, **dict(zip(_ID_MAPS, (things, stuff), strict=True))}


def _labels(metadata: Mapping[str, Any]) -> dict[int, tuple[int, bool]]:
    """Category id -> (class, whether it is a thing)."""
    things, stuff = (metadata[key] for key in _ID_MAPS)
    return {**{c: (i, False) for c, i in stuff.items()}, **{c: (i, True) for c, i in things.items()}}


def _check_annotations(file: CocoFile, folder: FolderIndex) -> list[int]:
    """The place of each annotation's image, -1 for one that is not there; files and images are checked."""
    section, images = file.annotations, file.images
    if section is None or images is None:
        return []
    ids, names = section.column("image_id"), section.column("file_name")
    index = {image_id: i for i, image_id in enumerate(images.column("id")) if type(image_id) in (int, str)}
    places = [index.get(i, -1) if type(i) in (int, str) else -1 for i in ids]
    unknown = np.array([place < 0 for place in places], dtype=bool)
    section.reject(unknown, "unknown image", lambda i: f"is of image {ids[i]!r}, which the file does not list")
    first: dict[int, int] = {}
    again = np.array([first.setdefault(place, i) != i for i, place in enumerate(places)], dtype=bool)
    section.reject(again, "duplicate annotation", lambda i: f"is of image {ids[i]!r}, which has one already")
    if not os.path.isdir(folder.root):
        section.report.error("missing folder", f"the folder of the PNGs {folder.root!r} does not exist")
    problems = [folder.problem(n) if isinstance(n, str) else ("missing", "is no file name") for n in names]
    for kind, title in (("unsafe", "unsafe file name"), ("missing", "missing label map")):
        bad = np.array([problem is not None and problem[0] == kind for problem in problems], dtype=bool)
        section.reject(
            bad, title, lambda i: f"names {names[i]!r} in {folder.root!r}, which {(problems[i] or ('', ''))[1]}"
        )
    annotated = np.array([i not in first for i in range(len(images))], dtype=bool)
    images.reject(annotated, "image without annotation", lambda i: "has no annotation", Severity.DROPPED)
    return places


def _segments(
    section: Section, labels: Mapping[int, tuple[int, bool]], with_entries: bool
) -> list[list[dict[str, Any]]]:
    """The checked segments of each annotation."""
    column = section.column("segments_info")
    problems: dict[int, str] = {}
    made: list[list[dict[str, Any]]] = []
    for i, segments in enumerate(column):
        found, problem = _read_segments(segments, labels, with_entries)
        made.append(found)
        if problem:
            problems[i] = problem
    bad = np.array([i in problems for i in range(len(column))], dtype=bool)
    section.reject(bad, "malformed segments", lambda i: problems[i])
    return made


def _read_segments(
    segments: Any, labels: Mapping[int, tuple[int, bool]], with_entries: bool
) -> tuple[list[dict[str, Any]], str]:
    """The segments of one image, and what is wrong with them or ``""``."""
    if not isinstance(segments, list) or not all(isinstance(s, dict) for s in segments):
        return [], "has no list 'segments_info' of segments"
    made: list[dict[str, Any]] = []
    for segment in segments:
        key, category = segment.get("id"), segment.get("category_id")
        crowd, area = segment.get("iscrowd", 0), segment.get("area")
        if type(key) is not int or not 0 < key < _MOST_IDS:
            return [], f"has a segment with the id {key!r}; ids are 1 to {_MOST_IDS - 1}"
        if type(category) is not int or category not in labels:
            return [], f"has segment {key} with category_id {category!r}, which is not among the file's categories"
        if type(crowd) not in (int, bool) or crowd not in (0, 1):
            return [], f"has segment {key} with iscrowd {crowd!r}; it is 0 or 1"
        if "bbox" in segment and not is_numbers(segment["bbox"], 4, finite=True):
            return [], f"has segment {key} with the box {str(segment['bbox'])[:60]}; a box is 4 numbers"
        if area is not None and not is_numbers([area], 1, finite=True):
            return [], f"has segment {key} with the area {area!r}; it is a number of pixels"
        label, is_thing = labels[category]
        kept = {name: segment[name] for name in ("bbox", "area") if name in segment}
        kept |= {"entry": segment} if with_entries else {}
        made.append({"id": key, "category_id": label, "isthing": is_thing, "iscrowd": int(crowd), **kept})
    twice = first_repeated(segment["id"] for segment in made)
    return made, f"has two segments with the id {twice}" if twice is not None else ""


def _records(
    file: CocoFile,
    image_of: Sequence[int],
    segments: Sequence[list[dict[str, Any]]],
    roots: tuple[str, str],
    with_entries: bool,
) -> list[dict[str, Any]]:
    """The records of sound annotations of sound images, in the order of the image ids, numbers before strings."""
    if file.annotations is None or file.images is None:
        return []
    records = []
    for i in np.flatnonzero(file.annotations.ok).tolist():
        if not file.images.ok[image_of[i]]:
            continue
        image, entry = file.images.entries[image_of[i]], file.annotations.entries[i]
        record = {
            "file_name": os.path.join(roots[0], image["file_name"]),
            "pan_seg_file_name": os.path.join(roots[1], entry["file_name"]),
            "image_id": image["id"],
            "height": int(image["height"]),
            "width": int(image["width"]),
            "segments_info": segments[i],
        }
        records.append({**record, "entry": image, "map_entry": entry} if with_entries else record)
    return sorted(records, key=lambda r: (isinstance(r["image_id"], str), r["image_id"]))


def _some(ids: set[int]) -> str:
    shown = ", ".join(str(key) for key in sorted(ids)[:5])
    return f"segment {shown}" if len(ids) == 1 else f"segments {shown}{', ...' if len(ids) > 5 else ''}"
