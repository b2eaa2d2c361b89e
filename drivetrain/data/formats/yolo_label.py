"""One line of a YOLO label file: a class, then a box, an outline, or a box and keypoints, as shares of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LabelLayout", "YoloObject", "format_label", "parse_label"]

_FARTHEST = 0.5  # how far outside 0 to 1 a coordinate may lie to be one of an object that leaves the image


@dataclass(frozen=True)
class LabelLayout:
    """What the lines of a dataset hold.

    Attributes:
        classes: how many there are.
        keypoints: (K, 2 or 3): how many keypoints an object has, and how many numbers each; None without keypoints.
    """

    classes: int
    keypoints: tuple[int, int] | None = None


@dataclass(frozen=True)
class YoloObject:
    """An object in pixels.

    Attributes:
        label: its class.
        box: x, y, width, height.
        more: ``segmentation`` (one polygon) or ``keypoints`` (flat x, y, visibility) where the line has them.
    """

    label: int
    box: list[float]
    more: dict[str, Any] = field(default_factory=dict)


def parse_label(line: str, height: int, width: int, layout: LabelLayout) -> YoloObject:
    """Read a line of an image of ``height`` x ``width`` pixels.

    Raises:
        ValueError: what is wrong with the line, to be said after its place.
    """
    try:
        row = [float(word) for word in line.split()]
    except ValueError:
        raise ValueError(f"is {_short(line)!r}; a line is numbers: a class, then coordinates") from None
    _check_length(row, line, layout)
    _check_class(row[0], line, layout)
    _check_coordinates(row, layout)
    values = row[1:]
    if layout.keypoints is None and len(values) > 4:
        xs, ys = [v * width for v in values[0::2]], [v * height for v in values[1::2]]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        polygon = [v for point in zip(xs, ys, strict=True) for v in point]
        return YoloObject(int(row[0]), box, {"segmentation": [polygon]})
    cx, cy, w, h = values[:4]
    box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
    if layout.keypoints is None:
        return YoloObject(int(row[0]), box)
    return YoloObject(int(row[0]), box, {"keypoints": _keypoints(values[4:], layout.keypoints[1], height, width)})


def format_label(
    label: int, height: int, width: int, box: Sequence[float], more: Mapping[str, Any], layout: LabelLayout
) -> str:
    """The line of an object, which :func:`parse_label` reads back to within a millionth of a pixel.

    Args:
        label: its class.
        height: of the image, in pixels.
        width: of the image, in pixels.
        box: x, y, width, height in pixels; left out where the line has an outline.
        more: with ``segmentation``, one polygon, an outline is written; with a layout of keypoints, ``keypoints``.
        layout: of the dataset.
    """
    polygons = more.get("segmentation")
    if polygons and layout.keypoints is None:
        numbers = [v / (height if i % 2 else width) for i, v in enumerate(polygons[0])]
    else:
        x, y, w, h = box
        numbers = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    if layout.keypoints is not None:
        points = more.get("keypoints") or [0.0] * (3 * layout.keypoints[0])
        for x, y, visibility in zip(points[0::3], points[1::3], points[2::3], strict=True):
            numbers += [x / width, y / height, visibility] if visibility > 0 else [0, 0, 0]
    return " ".join([str(label), *(f"{v:.10g}" for v in numbers)])


def _check_length(row: list[float], line: str, layout: LabelLayout) -> None:
    rule = "a class and 4 numbers (cx cy w h), or a class and 3 or more points (x y)"
    fine = len(row) == 5 or (len(row) >= 7 and len(row) % 2 == 1)
    if layout.keypoints is not None:
        count, size = layout.keypoints
        rule = f"a class, a box and {count} keypoints of {size} numbers, {5 + count * size} numbers in all"
        fine = len(row) == 5 + count * size
    if not fine:
        raise ValueError(f"has {len(row)} numbers ({_short(line)}); a line is {rule}")


def _check_class(label: float, line: str, layout: LabelLayout) -> None:
    if not label.is_integer():
        raise ValueError(f"has the class {_short(line.split()[0])!r}; it is a whole number")
    if not 0 <= label < layout.classes:
        raise ValueError(f"has the class {label:.0f}, but there are {layout.classes} (0 to {layout.classes - 1})")


def _check_coordinates(row: list[float], layout: LabelLayout) -> None:
    shares = row[1:]
    if layout.keypoints is not None and layout.keypoints[1] == 3:  # without the visibilities
        shares = row[1:5] + [v for i, v in enumerate(row[5:]) if i % 3 != 2]
    far = [v for v in shares if not -_FARTHEST <= v <= 1 + _FARTHEST]
    if far:
        raise ValueError(
            f"has the coordinate {far[0]:g}; coordinates are shares of the image's width and height, 0 to 1"
        )


def _keypoints(values: list[float], size: int, height: int, width: int) -> list[float]:
    """Flat x, y, visibility in pixels. Without a visibility, a point at 0, 0 is one that is not labelled."""
    points: list[float] = []
    for i in range(0, len(values), size):
        x, y = values[i], values[i + 1]
        visible = values[i + 2] if size == 3 else 2.0 * (x != 0 or y != 0)
        points += [x * width, y * height, visible] if visible > 0 else [0.0, 0.0, 0.0]
    return points


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
