"""Dataset records as a few flat numpy arrays, and back.

One row of whole numbers per record and one per annotation hold the small fields and where the variable ones start; text
lies in two byte arrays. The row after the last says where the last one ends.

============  =========  ========================================================================================
array         shape      contents
============  =========  ========================================================================================
records       (N+1, 7)   flags, image_id, height, width, start of file_name, start of further keys, annotations
record_text   bytes      file_name, then further keys as JSON, of each record
annotations   (M, 4)     flags, bbox_mode, category_id, iscrowd
starts        (M+1, 5)   first polygon, first keypoint value, run-length counts, further keys, place of the record
boxes         (M, 4)     bbox, read by its bbox_mode
areas         (M,)       area
ann_text      bytes      run-length "height width counts", then further keys as JSON, of each annotation
polygons      (P+1,)     first value of each polygon in points
points        floats     polygon coordinates
keypoints     floats     keypoint values
============  =========  ========================================================================================

Floats are 4 bytes where that loses nothing, otherwise 8. A value that does not fit its array (a ``bbox`` of another
length, an ``image_id`` that is a string) goes to the further keys, so that every record comes back as it was.
"""

from __future__ import annotations

import functools
import json
import operator
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError
from drivetrain.structures import BoxMode

__all__ = ["COLUMNS", "pack_records", "unpack_record"]

Array = np.ndarray[Any, Any]
Columns = Mapping[str, Array]

COLUMNS = (
    "records",
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

# Bits of a record's flags: which keys it has in its columns.
_NAME, _ID, _HEIGHT, _WIDTH, _ANNOTATIONS, _RECORD_EXTRA = (1 << i for i in range(6))
# Bits of an annotation's flags.
_BOX, _MODE, _CATEGORY, _CROWD, _AREA, _POLYGONS, _RLE, _RLE_BYTES, _RLE_LIST, _KEYPOINTS, _EXTRA = (
    1 << i for i in range(11)
)

_EXACT = 2**53  # whole numbers up to here are floats without loss
_PLAIN = _BOX | _MODE | _CATEGORY | _CROWD

_RECORD_INTEGERS = (("image_id", _ID), ("height", _HEIGHT), ("width", _WIDTH))
_ANNOTATION_INTEGERS = (("bbox_mode", _MODE), ("category_id", _CATEGORY), ("iscrowd", _CROWD))
_BOX_MODES: Mapping[int, int] = {int(mode): mode for mode in BoxMode}


def pack_records(records: Iterable[Mapping[str, Any]]) -> dict[str, Array]:
    """The columns of ``records``.

    Raises:
        DatasetError: a record is not a mapping, or has a value that JSON cannot hold; names the record.
    """
    packer = _Packer()
    record: Any = None
    try:
        for record in records:
            packer.add(record)
    except (TypeError, ValueError) as err:
        name = record.get("file_name") if isinstance(record, Mapping) else record
        place = f"record {packer.record_count} of the dataset ({name!r})"
        raise DatasetError(f"{place} cannot be stored: {err}") from err
    return packer.finish()


def unpack_record(columns: Columns, place: int) -> dict[str, Any]:
    """A fresh copy of the record at ``place`` (0 or more)."""
    row, end = columns["records"][place : place + 2].tolist()
    flags, image_id, height, width, name_at, extra_at, first = row
    text = columns["record_text"]
    record: dict[str, Any] = {}
    if flags & _NAME:
        record["file_name"] = text[name_at:extra_at].tobytes().decode("utf-8", "surrogatepass")
    if flags & _ID:
        record["image_id"] = image_id
    if flags & _HEIGHT:
        record["height"] = height
    if flags & _WIDTH:
        record["width"] = width
    if flags & _ANNOTATIONS:
        record["annotations"] = _unpack_annotations(columns, first, end[6])
    if flags & _RECORD_EXTRA:
        record.update(json.loads(text[extra_at : end[4]].tobytes()))
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
        _add_text(columns["ann_text"], columns["starts"][first : last + 1, 2:4].tolist(), flags, annotations)
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


class _Packer:
    """Columns under construction."""

    def __init__(self) -> None:
        self.records, self.annotations, self.starts, self.polygons = (array("q") for _ in range(4))
        self.boxes, self.areas = array("d"), array("d")
        self.points, self.keypoints = array("d"), array("d")
        self.record_text, self.ann_text = bytearray(), bytearray()
        self.record_count = self.annotation_count = 0

    def add(self, record: Mapping[str, Any]) -> None:
        rest = dict(record)
        flags, name = 0, b""
        if isinstance(rest.get("file_name"), str):
            name, flags = rest.pop("file_name").encode("utf-8", "surrogatepass"), _NAME
        integers, found = _take_integers(rest, _RECORD_INTEGERS)
        annotations = rest.get("annotations")
        if isinstance(annotations, (list, tuple)) and all(isinstance(a, Mapping) for a in annotations):
            del rest["annotations"]
            flags |= _ANNOTATIONS
        else:
            annotations = ()
        flags |= found | (_RECORD_EXTRA if rest else 0)
        name_at = len(self.record_text)
        first = self.annotation_count
        for annotation in annotations:
            self._add_annotation(annotation)
        self.record_text += name
        extra_at = len(self.record_text)
        self.record_text += _to_json(rest)
        self.records.extend((flags, *integers, name_at, extra_at, first))
        self.record_count += 1

    def _add_annotation(self, annotation: Mapping[str, Any]) -> None:
        rest = dict(annotation)
        integers, flags = _take_integers(rest, _ANNOTATION_INTEGERS)
        polygons_at, keypoints_at, counts_at = len(self.polygons), len(self.keypoints), len(self.ann_text)
        flags |= self._take_box(rest) | self._take_area(rest) | self._take_segmentation(rest)
        keypoints = _floats(rest.get("keypoints"))
        if keypoints is not None:
            del rest["keypoints"]
            self.keypoints.extend(keypoints)
            flags |= _KEYPOINTS
        extra_at = len(self.ann_text)
        self.ann_text += _to_json(rest)
        flags |= _EXTRA if rest else 0
        self.annotations.extend((flags, *integers))
        self.starts.extend((polygons_at, keypoints_at, counts_at, extra_at, self.record_count))
        self.annotation_count += 1

    def _take_box(self, rest: dict[str, Any]) -> int:
        box = _floats(rest.get("bbox"))
        if box is None or len(box) != 4:
            self.boxes.extend((0.0, 0.0, 0.0, 0.0))
            return 0
        del rest["bbox"]
        self.boxes.extend(box)
        return _BOX

    def _take_area(self, rest: dict[str, Any]) -> int:
        area = _floats([rest["area"]]) if "area" in rest else None
        self.areas.append(area[0] if area is not None else 0.0)
        if area is None:
            return 0
        del rest["area"]
        return _AREA

    def _take_segmentation(self, rest: dict[str, Any]) -> int:
        value = rest.get("segmentation")
        if isinstance(value, (list, tuple)):
            polygons = [_floats(polygon) for polygon in value]
            if any(polygon is None for polygon in polygons):
                return 0
            for polygon in polygons:
                self.polygons.append(len(self.points))
                self.points.extend(polygon or ())
            del rest["segmentation"]
            return _POLYGONS
        packed = _run_lengths(value)
        if packed is None:
            return 0
        text, flag = packed
        self.ann_text += text
        del rest["segmentation"]
        return flag

    def finish(self) -> dict[str, Array]:
        ends = (len(self.polygons), len(self.keypoints), len(self.ann_text), len(self.ann_text))
        self.starts.extend((*ends, self.record_count))
        self.records.extend((0, 0, 0, 0, len(self.record_text), len(self.record_text), self.annotation_count))
        self.polygons.append(len(self.points))
        return {
            "records": np.frombuffer(self.records, np.int64).reshape(-1, 7),
            "record_text": np.frombuffer(self.record_text, np.uint8),
            "annotations": np.frombuffer(self.annotations, np.int64).reshape(-1, 4),
            "starts": np.frombuffer(self.starts, np.int64).reshape(-1, 5),
            "boxes": _smallest(self.boxes).reshape(-1, 4),
            "areas": _smallest(self.areas),
            "ann_text": np.frombuffer(self.ann_text, np.uint8),
            "polygons": np.frombuffer(self.polygons, np.int64),
            "points": _smallest(self.points),
            "keypoints": _smallest(self.keypoints),
        }


def _take_integers(rest: dict[str, Any], keys: tuple[tuple[str, int], ...]) -> tuple[list[int], int]:
    """Take the keys that hold whole numbers of 8 bytes out of ``rest``: their values (0 for the others) and flags."""
    values, flags = [0] * len(keys), 0
    for i, (key, flag) in enumerate(keys):
        value = rest.get(key)
        if isinstance(value, (int, np.integer)) and -(2**63) <= value < 2**63:
            values[i] = int(rest.pop(key))
            flags |= flag
    return values, flags


def _floats(values: Any) -> list[float] | None:
    """``values`` as floats when it is a sequence of numbers that floats hold exactly, else None."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        return None
    kinds = set(map(type, values))
    if kinds <= {float}:
        return list(values)
    if not all(issubclass(kind, (int, float, np.integer, np.floating)) for kind in kinds):
        return None
    if any(abs(int(v)) > _EXACT for v in values if isinstance(v, (int, np.integer))):
        return None
    return [float(v) for v in values]


def _run_lengths(value: Any) -> tuple[bytes, int] | None:
    """A COCO run-length encoding as bytes and its flags; None when it is none."""
    if not isinstance(value, Mapping) or set(value) != {"size", "counts"}:
        return None
    size, counts = value["size"], value["counts"]
    if not (isinstance(size, (list, tuple)) and len(size) == 2 and all(type(side) is int for side in size)):
        return None
    prefix = f"{size[0]} {size[1]} ".encode()
    if isinstance(counts, bytes):
        return prefix + counts, _RLE | _RLE_BYTES
    if isinstance(counts, str) and counts.isascii():
        return prefix + counts.encode(), _RLE
    if isinstance(counts, list) and all(type(run) is int for run in counts):
        return prefix + " ".join(map(str, counts)).encode(), _RLE | _RLE_LIST
    return None


def _smallest(values: array[float]) -> Array:
    """The values in 4 bytes each where that changes none of them, else in 8."""
    exact = np.frombuffer(values, np.float64) if values else np.zeros(0)
    with np.errstate(over="ignore", invalid="ignore"):
        small = exact.astype(np.float32)
    return small if np.array_equal(small.astype(np.float64), exact, equal_nan=True) else exact


def _to_json(rest: dict[str, Any]) -> bytes:
    """Keys that have no column, as JSON; nothing for none."""
    if not rest:
        return b""
    return json.dumps({key: _plain(value, key) for key, value in rest.items()}, separators=(",", ":")).encode()


def _plain(value: Any, key: Any) -> Any:
    """``value`` made of what JSON gives back unchanged: arrays and tuples become lists; other types are an error."""
    if not isinstance(key, str):
        raise TypeError(f"its key {key!r} is not a string")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {k: _plain(v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, key) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist(), key)
    raise TypeError(f"{key!r} holds a {type(value).__name__}; numbers, text, lists and dicts can be stored")
