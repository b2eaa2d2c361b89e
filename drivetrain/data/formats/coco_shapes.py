"""Checking what COCO annotations hold: boxes, segmentations and keypoints."""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np

from .coco_file import BoolArray, Section
from .defects import Severity

__all__ = ["check_boxes", "check_keypoints", "check_segmentations", "is_numbers"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

OVERHANG = 1.0
"""Boxes that leave the image by at most this many pixels are rounding, cut without a word."""

FARTHEST = 1e6
"""The largest coordinate of a polygon: filling one takes memory in proportion to its outline, whatever the image."""

_COMPRESSED_COUNTS = re.compile(r"[0-o]+")


def check_boxes(annotations: Section, sizes: FloatArray) -> FloatArray:
    """The boxes of all annotations, cut to their images; what is wrong is reported and rejected.

    Args:
        annotations: the section.
        sizes: (N, 2), width and height of each annotation's image.

    Returns:
        (N, 4) of x, y, width, height in pixels; rows of rejected annotations mean nothing.
    """
    raw = annotations.column("bbox")
    boxes = _number_rows(raw, 4)
    malformed: BoolArray = np.asarray(np.isnan(boxes).all(axis=1))
    for i in np.flatnonzero(malformed).tolist():  # a box of NaNs is numbers, and degenerate
        malformed[i] = not is_numbers(raw[i], 4)
    annotations.reject(
        malformed,
        "malformed box",
        lambda i: f"has the box {_cut(raw[i])}; a box is 4 numbers: x, y, width, height",
    )
    with np.errstate(invalid="ignore", over="ignore"):
        degenerate: BoolArray = ~(np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0))
        annotations.reject(
            degenerate, "degenerate box", lambda i: f"has the box {raw[i]} without an area", Severity.DROPPED
        )
        return _cut_to_image(annotations, boxes, sizes)


def _cut_to_image(annotations: Section, boxes: FloatArray, sizes: FloatArray) -> FloatArray:
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    cut_low, cut_high = np.clip(low, 0, sizes), np.clip(high, 0, sizes)

    def message(i: int) -> str:
        return f"has the box {boxes[i].tolist()} in an image of {sizes[i, 0]:.0f} x {sizes[i, 1]:.0f} pixels"

    outside: BoolArray = np.asarray((cut_high <= cut_low).any(axis=1))
    annotations.reject(outside, "box outside the image", message, Severity.DROPPED)
    overhang = np.maximum(cut_low - low, high - cut_high).max(axis=1, initial=0.0)
    annotations.note(overhang > OVERHANG, "box over the edge", message, Severity.FIXED)
    cut = ((cut_low != low) | (cut_high != high)).any(axis=1, keepdims=True)
    return np.where(cut, np.concatenate([cut_low, cut_high - cut_low], axis=1), boxes)


def check_segmentations(annotations: Section, sizes: FloatArray) -> list[Any]:
    """The segmentation of each annotation: polygons, a run-length dict, or None where it has none.

    Polygons with less than 3 points or an odd number of values are taken out; an annotation of which none is left is
    rejected as dropped. A segmentation that is neither polygons nor run lengths is an error.
    """
    cleaned = [value or None for value in annotations.column("segmentation")]
    total = len(cleaned)
    malformed, empty, thinned = (np.zeros(total, dtype=bool) for _ in range(3))
    reasons: dict[int, str] = {}
    numbers_are_sound = _all_near(cleaned)
    for i, value in enumerate(cleaned):
        if value is None:
            continue
        if type(value) is list and all(type(polygon) is list for polygon in value):
            good = [p for p in value if _is_polygon(p) and (numbers_are_sound or _is_near(p))]
            if len(good) < len(value):
                cleaned[i] = good
                empty[i], thinned[i] = not good, bool(good)
        elif reason := _rle_problem(value, sizes[i]):
            malformed[i], reasons[i] = True, reason
    annotations.reject(malformed, "malformed segmentation", lambda i: reasons[i])
    rule = f"a polygon is an even number of 6 or more numbers within {FARTHEST:,.0f}"
    annotations.reject(empty, "invalid polygon", lambda i: f"has no valid polygon; {rule}", Severity.DROPPED)
    annotations.note(thinned, "invalid polygon", lambda i: f"has an invalid polygon; {rule}", Severity.FIXED)
    return cleaned


def check_keypoints(annotations: Section, expected: int | None) -> list[Any]:
    """The keypoints of each annotation, flat ``[x, y, v] * K``, or None where it has none.

    Args:
        annotations: the section.
        expected: K as the categories have it; None: what most annotations have.
    """
    column = [value or None for value in annotations.column("keypoints")]
    lengths = Counter(len(value) for value in column if type(value) is list)
    if not lengths and not any(column):
        return column
    if expected is None:
        expected = lengths.most_common(1)[0][0] // 3 if lengths else 0
    bad = np.fromiter(
        (v is not None and not is_numbers(v, 3 * expected, finite=True) for v in column), bool, len(column)
    )

    def message(i: int) -> str:
        value = column[i]
        received = f"{len(value)} values" if isinstance(value, list) else _cut(value)
        return f"has keypoints of {received}; {expected} keypoints are {3 * expected} finite numbers: x, y, v of each"

    annotations.reject(bad, "malformed keypoints", message)
    return column


def _is_polygon(values: list[Any]) -> bool:
    return len(values) >= 6 and len(values) % 2 == 0


def _is_near(values: list[Any]) -> bool:
    return is_numbers(values, len(values)) and all(abs(value) <= FARTHEST for value in values)


def _all_near(segmentations: list[Any]) -> bool:
    """Whether all polygons together hold usable numbers only: one fast pass, all that a file in order pays."""
    try:
        values = array("d", chain.from_iterable(chain.from_iterable(s for s in segmentations if type(s) is list)))
    except (TypeError, ValueError, OverflowError):
        return False
    return bool((np.abs(np.frombuffer(values)) <= FARTHEST).all()) if values else True


def _rle_problem(value: Any, size: FloatArray) -> str:
    """What is wrong with a run-length encoding of an image of ``size`` (width, height), or ``""``."""
    if not isinstance(value, dict):
        inner = "; put the polygon into a list" if type(value) is list and is_numbers(value, len(value)) else ""
        return f"has the segmentation {_cut(value)}; it must be a list of polygons or a run-length encoding{inner}"
    rle_size, counts = value.get("size"), value.get("counts")
    wanted = [int(size[1]), int(size[0])]
    if rle_size != wanted:
        return f"has a run-length encoding of size {_cut(rle_size)}, but its image is {wanted} (height, width)"
    if isinstance(counts, str):
        fine = bool(_COMPRESSED_COUNTS.fullmatch(counts))
        return "" if fine else "has a run-length encoding whose 'counts' string is damaged"
    if not isinstance(counts, list) or not all(type(run) is int and run >= 0 for run in counts):
        return f"has a run-length encoding with 'counts' {_cut(counts)}; they are a string or a list of run lengths"
    total, pixels = sum(counts), wanted[0] * wanted[1]
    return "" if total == pixels else f"has run lengths that add up to {total}, but its image has {pixels} pixels"


def _number_rows(rows: list[Any], width: int) -> FloatArray:
    """``rows`` as an array (N, width); a row that is not ``width`` numbers becomes NaN."""
    if not rows:
        return np.zeros((0, width))
    try:
        values = np.array(rows)
        if values.dtype.kind in "iuf" and values.shape == (len(rows), width):
            return values.astype(np.float64)
    except (ValueError, OverflowError):  # rows of several lengths
        pass
    blank = [math.nan] * width
    return np.array([row if is_numbers(row, width) else blank for row in rows], dtype=np.float64)


def is_numbers(values: Any, count: int, finite: bool = False) -> bool:
    """Whether ``values`` is a list of ``count`` numbers that a float can hold."""
    if type(values) is not list or len(values) != count or count == 0:
        return False
    for value in values:
        if type(value) is int:
            if abs(value) > 2**63:
                return False
        elif type(value) is not float or (finite and not math.isfinite(value)):
            return False
    return True


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
