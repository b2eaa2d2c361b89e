"""The outline of a mask as exact polygons, and its tight box."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["mask_box", "mask_polygons"]

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_RIGHT, _DOWN, _LEFT, _UP = range(4)  # one more is a turn to the right as seen on the screen


def mask_box(mask: BoolArray) -> tuple[int, int, int, int]:
    """x, y, width, height of the smallest box around the True pixels of ``mask`` (height, width); needs one or more."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def mask_polygons(mask: BoolArray) -> list[list[int]]:
    """The borders of a bool mask (height, width) along its pixels' edges, each ``[x0, y0, x1, y1, ...]``.

    Only corners are listed. Outer borders run clockwise as seen on the screen, holes the other way. Pixels that touch
    at a corner alone belong to different borders.
    """
    if not mask.any():
        return []
    left, top, width, height = mask_box(mask)
    stride = width + 2
    edges = _border_edges(mask[top : top + height, left : left + width], stride)
    polygons = []
    while edges:
        corners = np.array(_follow(edges, stride))
        polygon = np.stack([corners % stride + left, corners // stride + top], axis=1)
        polygons.append(polygon.ravel().tolist())
    return polygons


def _border_edges(mask: BoolArray, stride: int) -> set[int]:
    """The unit edges between True and False pixels, directed so that True lies on the right hand.

    Corner (x, y) of the pixel grid is the number ``y * stride + x``, an edge from there ``corner * 4 + direction``.
    """
    padded = np.pad(mask, 1)
    sides = (
        (padded[:-2, 1:-1], 0, _RIGHT),  # along a pixel's top, from its top left corner
        (padded[1:-1, 2:], 1, _DOWN),
        (padded[2:, 1:-1], stride + 1, _LEFT),
        (padded[1:-1, :-2], stride, _UP),
    )
    edges: set[int] = set()
    for neighbour, corner, direction in sides:
        y, x = np.nonzero(mask & ~neighbour)
        edges.update(((y * stride + x + corner) * 4 + direction).tolist())
    return edges


def _follow(edges: set[int], stride: int) -> list[int]:
    """Take one closed border out of ``edges`` and return its corners.

    Where two borders cross it turns right and so stays with the pixel it is following.
    """
    steps = (1, stride, -1, -stride)
    first = min(edges)  # the topmost, leftmost edge runs right along a pixel's top, and a corner lies before it
    corners = []
    edge = first
    while True:
        point, direction = edge // 4, edge % 4
        point += steps[direction]
        for turn in (1, 0, 3):
            following = point * 4 + (direction + turn) % 4
            if following in edges:
                break
        if turn:
            corners.append(point)
        edge = following
        edges.remove(edge)
        if edge == first:
            return corners
