"""Making the columns of dataset records; see `drivetrain.data.columns` for their layout."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from drivetrain.errors import DatasetError

from .columns import ANNOTATION_FLAGS, COLUMNS, RECORD_FLAGS

__all__ = ["pack_records"]

Array = np.ndarray[Any, Any]

_NAME, _ID, _HEIGHT, _WIDTH, _ANNOTATIONS, _RECORD_EXTRA = RECORD_FLAGS
_BOX, _MODE, _CATEGORY, _CROWD, _AREA, _POLYGONS, _RLE, _RLE_BYTES, _RLE_LIST, _KEYPOINTS, _EXTRA = ANNOTATION_FLAGS

_EXACT = 2**53  # whole numbers up to here are floats without loss
_PART = 1 << 16  # annotations, and records, that are collected in 8 bytes a number before they are made smaller

_RECORD_INTEGERS = (("image_id", _ID), ("height", _HEIGHT), ("width", _WIDTH))
_ANNOTATION_INTEGERS = (("bbox_mode", _MODE), ("category_id", _CATEGORY), ("iscrowd", _CROWD))


def pack_records(records: Iterable[Mapping[str, Any]]) -> dict[str, Array]:
    """The columns of ``records``, which may come from a generator; memory is needed for the columns alone.

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


class _Numbers:
    """Numbers under construction: the last ones in 8 bytes each, those before in as few as they need."""

    def __init__(self, width: int = 1, kind: Literal["q", "d"] = "q") -> None:
        self._width, self._kind = width, kind
        self._parts: list[Array] = []
        self._count = 0
        self._latest: array[Any] = array(kind)

    def extend(self, values: Iterable[float]) -> None:
        """Add some."""
        self._latest.extend(values)

    def __len__(self) -> int:
        """How many there are."""
        return self._count + len(self._latest)

    def shrink(self) -> None:
        """Make the last ones smaller."""
        self._parts.append(_floats_of(self._latest) if self._kind == "d" else _integers_of(self._latest))
        self._count += len(self._latest)
        self._latest = array(self._kind)

    def finish(self) -> Array:
        """All of them, in rows of the width."""
        self.shrink()
        parts, self._parts = self._parts, []
        whole: Array = np.concatenate(parts)
        return whole if self._width == 1 else whole.reshape(-1, self._width)


class _Packer:
    """Columns under construction."""

    def __init__(self) -> None:
        self.records, self.annotations, self.starts = _Numbers(5), _Numbers(4), _Numbers(4)
        self.heights, self.widths, self.objects, self.polygons = (_Numbers() for _ in range(4))
        self.boxes, self.areas, self.points, self.keypoints = _Numbers(4, "d"), *(_Numbers(1, "d") for _ in range(3))
        self.record_text, self.ann_text = bytearray(), bytearray()
        self.record_count = self.annotation_count = self._shrunk = 0

    def add(self, record: Mapping[str, Any]) -> None:
        rest = dict(record)
        flags, name = 0, b""
        if isinstance(rest.get("file_name"), str):
            name, flags = rest.pop("file_name").encode("utf-8", "surrogatepass"), _NAME
        (image_id, height, width), found = _take_integers(rest, _RECORD_INTEGERS)
        annotations = rest.get("annotations")
        if isinstance(annotations, (list, tuple)) and all(isinstance(a, Mapping) for a in annotations):
            del rest["annotations"]
            flags |= _ANNOTATIONS
        else:
            annotations = ()
        flags |= found | (_RECORD_EXTRA if rest else 0)
        name_at, first = len(self.record_text), self.annotation_count
        objects = sum([self._add_annotation(annotation) for annotation in annotations])
        self.record_text += name
        extra_at = len(self.record_text)
        self.record_text += _to_json(rest)
        self.records.extend((flags, image_id, name_at, extra_at, first))
        self.heights.extend((height,))
        self.widths.extend((width,))
        self.objects.extend((objects,))
        self.record_count += 1
        if self.annotation_count + self.record_count - self._shrunk >= _PART:
            self._shrunk = self.annotation_count + self.record_count
            for numbers in self._all().values():
                numbers.shrink()

    def _all(self) -> dict[str, _Numbers]:
        return {name: value for name, value in vars(self).items() if isinstance(value, _Numbers)}

    def _add_annotation(self, annotation: Mapping[str, Any]) -> bool:
        """Add one; whether it is an object, not a crowd."""
        rest = dict(annotation)
        integers, flags = _take_integers(rest, _ANNOTATION_INTEGERS)
        polygons_at, keypoints_at = len(self.polygons), len(self.keypoints)
        counts_at = len(self.ann_text)
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
        self.starts.extend((polygons_at, keypoints_at, counts_at, extra_at))
        self.annotation_count += 1
        return integers[2] == 0

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
        self.areas.extend(area or (0.0,))
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
                self.polygons.extend((len(self.points),))
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
        text = len(self.ann_text)
        self.starts.extend((len(self.polygons), len(self.keypoints), text, text))
        self.records.extend((0, 0, len(self.record_text), len(self.record_text), self.annotation_count))
        self.polygons.extend((len(self.points),))
        columns = {name: numbers.finish() for name, numbers in self._all().items()}
        columns["record_text"] = np.frombuffer(self.record_text, np.uint8)
        columns["ann_text"] = np.frombuffer(self.ann_text, np.uint8)
        return {name: columns[name] for name in COLUMNS}


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


def _floats_of(values: array[float]) -> Array:
    """The values in 4 bytes each where that changes none of them, else in 8."""
    exact = np.frombuffer(values, np.float64) if values else np.zeros(0, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        small = exact.astype(np.float32)
    return small if np.array_equal(small.astype(np.float64), exact, equal_nan=True) else exact


def _integers_of(values: array[int]) -> Array:
    """The values in 2, 4 or 8 bytes each, as the largest needs."""
    exact = np.frombuffer(values, np.int64) if values else np.zeros(0, np.int16)
    low, high = (int(exact.min()), int(exact.max())) if len(exact) else (0, 0)
    fits = (kind for kind in (np.int16, np.int32) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return exact.astype(next(fits, np.int64))


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
