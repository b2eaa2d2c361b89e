"""Dataset records as a few flat numpy arrays: their layout, and how a record is read from them.

One row of whole numbers per record and one per annotation hold the small fields and where the variable ones start; text
lies in two byte arrays. The row after the last says where the last one ends. What is asked of all records at once
(sizes, numbers of objects) has arrays of its own, so that it is read without the rest.

============  =========  ========================================================================================
array         shape      contents
============  =========  ========================================================================================
records       (N+1, 5)   flags, image_id, start of file_name, start of further keys, first annotation
heights       (N,)       height, 0 for none
widths        (N,)       width, 0 for none
objects       (N,)       number of annotations that are not crowds
record_text   bytes      file_name, then further keys as JSON, of each record
annotations   (M, 4)     flags, bbox_mode, category_id, iscrowd
starts        (M+1, 4)   first polygon, first keypoint value, run-length counts, further keys
boxes         (M, 4)     bbox, read by its bbox_mode
areas         (M,)       area
ann_text      bytes      run-length "height width counts", then further keys as JSON, of each annotation
polygons      (P+1,)     first value of each polygon in points
points        floats     polygon coordinates
keypoints     floats     keypoint values
============  =========  ========================================================================================

Whole numbers take 2 to 8 bytes, as the largest of an array needs, floats 4 bytes where that loses nothing, otherwise 8.
A value that does not fit its array (a ``bbox`` of another length, an ``image_id`` that is a string) goes to the further
keys, so that every record comes back as it was.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.structures import BoxMode

__all__ = ["ANNOTATION_FLAGS", "COLUMNS", "RECORD_FLAGS", "unpack_record"]

Array = np.ndarray[Any, Any]
Columns = Mapping[str, Array]

COLUMNS = (
    "records",
    "heights",
    "widths",
    "objects",
    "record_text",
    "annotations",
    "starts",
    "boxes",
    "areas",
    "ann_text",
    "polygons",
    "points",
    "keypoints",
)

RECORD_FLAGS = _NAME, _ID, _HEIGHT, _WIDTH, _ANNOTATIONS, _RECORD_EXTRA = tuple(1 << i for i in range(6))
"""Bits of a record's flags: which of file_name, image_id, height, width, annotations and further keys it has."""

ANNOTATION_FLAGS = _BOX, _MODE, _CATEGORY, _CROWD, _AREA, _POLYGONS, _RLE, _RLE_BYTES, _RLE_LIST, _KEYPOINTS, _EXTRA = (
    tuple(1 << i for i in range(11))
)
"""Bits of an annotation's flags: what it has, in the order of these names, and how run lengths are written."""

_PLAIN = _BOX | _MODE | _CATEGORY | _CROWD
_BOX_MODES: Mapping[int, int] = {int(mode): mode for mode in BoxMode}


def unpack_record(columns: Columns, place: int) -> dict[str, Any]:
    """A fresh copy of the record at ``place`` (0 or more)."""
    (flags, image_id, name_at, extra_at, first), end = columns["records"][place : place + 2].tolist()
    text = columns["record_text"]
    record: dict[str, Any] = {}
    if flags & _NAME:
        record["file_name"] = text[name_at:extra_at].tobytes().decode("utf-8", "surrogatepass")
    if flags & _ID:
        record["image_id"] = image_id
    if flags & _HEIGHT:
        record["height"] = int(columns["heights"][place])
    if flags & _WIDTH:
        record["width"] = int(columns["widths"][place])
    if flags & _ANNOTATIONS:
        record["annotations"] = _unpack_annotations(columns, first, end[4])
    if flags & _RECORD_EXTRA:
        record.update(json.loads(text[extra_at : end[2]].tobytes()))
    return record


def _unpack_annotations(columns: Columns, first: int, last: int) -> list[dict[str, Any]]:
    rows = columns["annotations"][first:last].tolist()
    boxes = columns["boxes"][first:last].tolist()
    annotations: list[dict[str, Any]]
    if all([row[0] & _PLAIN == _PLAIN for row in rows]):  # noqa: C419 (a generator costs more than the rest of it)
        annotations = [
            {"bbox": box, "bbox_mode": _BOX_MODES.get(mode, mode), "category_id": category, "iscrowd": crowd}
            for (_, mode, category, crowd), box in zip(rows, boxes, strict=False)
        ]
    else:
        annotations = [_small_fields(row, box) for row, box in zip(rows, boxes, strict=False)]
    flags = [row[0] for row in rows]
    present = functools.reduce(operator.or_, flags, 0)
    if present & _AREA:
        for flag, annotation, area in zip(flags, annotations, columns["areas"][first:last].tolist(), strict=False):
            if flag & _AREA:
                annotation["area"] = area
    if present & _POLYGONS:
        _add_polygons(columns, columns["starts"][first : last + 1, 0].tolist(), flags, annotations)
    if present & _KEYPOINTS:
        _add_keypoints(columns["keypoints"], columns["starts"][first : last + 1, 1].tolist(), flags, annotations)
    if present & (_RLE | _EXTRA):
        _add_text(columns["ann_text"], columns["starts"][first : last + 1, 2:].tolist(), flags, annotations)
    return annotations


def _small_fields(row: Sequence[int], box: list[float]) -> dict[str, Any]:
    flags, mode, category, crowd = row
    annotation: dict[str, Any] = {}
    if flags & _BOX:
        annotation["bbox"] = box
    if flags & _MODE:
        annotation["bbox_mode"] = _BOX_MODES.get(mode, mode)
    if flags & _CATEGORY:
        annotation["category_id"] = category
    if flags & _CROWD:
        annotation["iscrowd"] = crowd
    return annotation


def _add_polygons(columns: Columns, places: list[int], flags: list[int], annotations: list[dict[str, Any]]) -> None:
    first = places[0]
    starts = columns["polygons"][first : places[-1] + 1].tolist()
    offset = starts[0]
    values = columns["points"][offset : starts[-1]].tolist()
    for i, annotation in enumerate(annotations):
        if flags[i] & _POLYGONS:
            own = range(places[i] - first, places[i + 1] - first)
            annotation["segmentation"] = [values[starts[p] - offset : starts[p + 1] - offset] for p in own]


def _add_keypoints(keypoints: Array, places: list[int], flags: list[int], annotations: list[dict[str, Any]]) -> None:
    values = keypoints[places[0] : places[-1]].tolist()
    for i, annotation in enumerate(annotations):
        if flags[i] & _KEYPOINTS:
            annotation["keypoints"] = values[places[i] - places[0] : places[i + 1] - places[0]]


def _add_text(text: Array, places: list[list[int]], flags: list[int], annotations: list[dict[str, Any]]) -> None:
    for i, annotation in enumerate(annotations):
        counts_at, extra_at, end = *places[i], places[i + 1][0]
        if flags[i] & _RLE:
            height, width, counts = text[counts_at:extra_at].tobytes().split(b" ", 2)
            annotation["segmentation"] = {"size": [int(height), int(width)], "counts": _counts(flags[i], counts)}
        if flags[i] & _EXTRA:
            annotation.update(json.loads(text[extra_at:end].tobytes()))


def _counts(flags: int, counts: bytes) -> str | bytes | list[int]:
    if flags & _RLE_LIST:
        return [int(run) for run in counts.split()]
    return counts if flags & _RLE_BYTES else counts.decode("ascii")
