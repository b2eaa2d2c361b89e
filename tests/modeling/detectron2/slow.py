"""What detectors do with boxes, written out with plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Box = tuple[float, ...]


def moved(box: Sequence[float], deltas: Sequence[float], weights: Sequence[float], size: tuple[int, int]) -> Box:
    """A box after differences, cut to an image of (height, width)."""
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas, weights, strict=True))
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = (box[0] + box[2]) / 2 + dx * width, (box[1] + box[3]) / 2 + dy * height
    limit = math.log(1000 / 16)
    width, height = width * math.exp(min(dw, limit)), height * math.exp(min(dh, limit))
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return tuple(min(max(edge, 0.0), size[1 - k % 2]) for k, edge in enumerate(corners))


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """The intersection over the union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (areas - common) if areas > common else 0.0


def without_overlapping(found: Sequence[Any], threshold: float) -> list[Any]:
    """Of (score, group, box), best first, those that overlap no better one of their group by more than that."""
    kept: list[Any] = []
    for one in found:
        if all(one[1] != other[1] or overlap(one[2], other[2]) <= threshold for other in kept):
            kept.append(one)
    return kept
