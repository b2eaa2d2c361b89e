"""Axis-aligned boxes: a batch of them as one tensor, the notations they come in, and their overlaps.

Unless a docstring says otherwise a box is ``(x0, y0, x1, y1)`` in absolute pixels: the left, top, right and
bottom edge, with x to the right and y downwards from the top left corner of the image. A box from 0 to 10 is
10 pixels wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import IntEnum, unique
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import DatasetError

__all__ = [
    "BoxMode",
    "Boxes",
    "matched_pairwise_iou",
    "pairwise_intersection",
    "pairwise_ioa",
    "pairwise_iou",
]

BoxLike = TypeVar("BoxLike", list[float], tuple[float, ...], np.ndarray[Any, Any], Tensor)
"""One box as a list or tuple of numbers, or boxes as the rows of an array or a tensor."""


@unique
class BoxMode(IntEnum):
    """How the numbers of a box are to be read. Dataset records store the values, so they never change."""

    XYXY_ABS = 0
    """``(x0, y0, x1, y1)`` in pixels."""
    XYWH_ABS = 1
    """``(x0, y0, width, height)`` in pixels, as COCO files have it."""
    XYXY_REL = 2
    """``(x0, y0, x1, y1)`` as fractions of the image's width and height. Not convertible here."""
    XYWH_REL = 3
    """``(x0, y0, width, height)`` as fractions of the image's width and height. Not convertible here."""
    XYWHA_ABS = 4
    """``(centre x, centre y, width, height, angle)`` in pixels and degrees, counter-clockwise."""

    @staticmethod
    def convert(box: BoxLike, from_mode: BoxMode | int, to_mode: BoxMode | int) -> BoxLike:
        """The same boxes in another notation; the type (and dtype, where it is floating) of ``box`` is kept.

        Args:
            box: one box as a list or tuple of 4 (XYWHA: 5) numbers, or boxes of shape (..., 4 or 5).
            from_mode: the notation of ``box``.
            to_mode: the notation wanted. XYXY_ABS and XYWH_ABS convert into each other; XYWHA_ABS converts to
                either of them (the smallest upright box around the rotated one).

        Raises:
            DatasetError: the box has another number of values, or the two notations do not convert.
        """
        from_mode, to_mode = BoxMode(from_mode), BoxMode(to_mode)
        if from_mode == to_mode:
            return box
        upright: tuple[BoxMode, ...] = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
        if to_mode not in upright or from_mode not in (*upright, BoxMode.XYWHA_ABS):
            raise DatasetError(
                f"boxes cannot be converted from {from_mode.name} to {to_mode.name}: give XYXY_ABS or "
                "XYWH_ABS boxes (multiply relative ones by the image's width and height)"
            )
        rows = torch.as_tensor(box)
        size = 5 if from_mode == BoxMode.XYWHA_ABS else 4
        if rows.ndim == 0 or rows.shape[-1] != size:
            raise DatasetError(f"a {from_mode.name} box has {size} numbers, but this one was received: {box!r}")
        if not rows.is_floating_point() and from_mode == BoxMode.XYWHA_ABS:
            rows = rows.to(torch.float64)
        return _as_type_of(box, _convert_rows(rows, from_mode, to_mode))


def _convert_rows(rows: Tensor, from_mode: BoxMode, to_mode: BoxMode) -> Tensor:
    """``rows`` (..., 4 or 5) from one of the three absolute modes to another of the two upright ones."""
    if from_mode == BoxMode.XYWHA_ABS:
        centre, size = rows[..., :2], rows[..., 2:4]
        angle = rows[..., 4] * (math.pi / 180)
        cos, sin = angle.cos().abs(), angle.sin().abs()
        extent = torch.stack((cos * size[..., 0] + sin * size[..., 1], sin * size[..., 0] + cos * size[..., 1]), -1)
        corner = centre - extent / 2
        return torch.cat((corner, extent if to_mode == BoxMode.XYWH_ABS else corner + extent), -1)
    corner, other = rows[..., :2], rows[..., 2:]
    return torch.cat((corner, other - corner if to_mode == BoxMode.XYWH_ABS else corner + other), -1)


def _as_type_of(box: BoxLike, rows: Tensor) -> BoxLike:
    """``rows`` as the list, tuple, array or tensor that ``box`` was."""
    if isinstance(box, Tensor):
        return rows
    if isinstance(box, np.ndarray):
        return rows.numpy()
    return type(box)(rows.tolist())


class Boxes:
    """N boxes, ``(x0, y0, x1, y1)`` in absolute pixels, in one float32 tensor of shape (N, 4).

    Attributes:
        tensor: the (N, 4) float32 tensor itself.
    """

    def __init__(self, tensor: Tensor | np.ndarray[Any, Any] | Sequence[Sequence[float]]) -> None:
        """Hold ``tensor``, converted to float32; anything without elements is an (0, 4) tensor.

        Raises:
            ValueError: the shape is not (N, 4).
        """
        rows = torch.as_tensor(tensor, dtype=torch.float32)
        if rows.numel() == 0:
            rows = rows.reshape(-1, 4) if rows.ndim == 2 and rows.shape[1] == 4 else rows.new_zeros((0, 4))
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise ValueError(f"boxes are rows of 4 numbers, but a tensor of shape {tuple(rows.shape)} was received")
        self.tensor = rows

    def clone(self) -> Boxes:
        """A copy with memory of its own."""
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Boxes:
        """The same boxes on ``device``."""
        return Boxes(self.tensor.to(device=device, non_blocking=non_blocking))

    @property
    def device(self) -> torch.device:
        """Where the tensor lies."""
        return self.tensor.device

    def area(self) -> Tensor:
        """The area of each box in square pixels, shape (N,)."""
        return (self.tensor[:, 2] - self.tensor[:, 0]) * (self.tensor[:, 3] - self.tensor[:, 1])

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move edges outside an image of ``box_size`` (height, width) to its border, in place."""
        height, width = box_size
        limit = self.tensor.new_tensor((width, height, width, height))
        self.tensor = torch.minimum(self.tensor.clamp(min=0), limit)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Which boxes are wider and higher than ``threshold`` pixels, a bool tensor of shape (N,)."""
        return ((self.tensor[:, 2:] - self.tensor[:, :2]) > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Which boxes lie inside an image of ``box_size`` (height, width), bool, shape (N,).

        An edge may lie up to ``boundary_threshold`` pixels outside; the right and bottom ones strictly less.
        """
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(1)
        low = (x0 >= -boundary_threshold) & (y0 >= -boundary_threshold)
        return low & (x1 < width + boundary_threshold) & (y1 < height + boundary_threshold)

    def get_centers(self) -> Tensor:
        """The centre ``(x, y)`` of each box, shape (N, 2)."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply the x and the y coordinates, in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: Sequence[Boxes]) -> Boxes:
        """All boxes of the list in order; an empty list gives an empty Boxes on the CPU."""
        if not boxes_list:
            return cls(torch.empty(0, 4))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list], dim=0))

    def __getitem__(self, item: int | slice | Tensor | np.ndarray[Any, Any] | Sequence[int]) -> Boxes:
        """The boxes at an integer, slice, bool mask (N,) or integer indices; always Boxes."""
        if isinstance(item, int):
            return Boxes(self.tensor[item].view(1, 4))
        rows = self.tensor[item]
        if rows.ndim == 1:  # a tensor or numpy scalar as the index
            rows = rows.view(1, 4)
        if rows.ndim != 2:
            raise IndexError(f"an index of boxes is an integer or one-dimensional, but {item!r} was received")
        return Boxes(rows)

    def __len__(self) -> int:
        """The number of boxes."""
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Each box as a tensor of shape (4,)."""
        yield from self.tensor

    def __repr__(self) -> str:
        """The tensor, readable."""
        return f"Boxes({self.tensor})"


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """The area in square pixels that each of ``boxes1`` (N) shares with each of ``boxes2`` (M), shape (N, M)."""
    a, b = boxes1.tensor[:, None], boxes2.tensor[None]
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    return size.prod(dim=-1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, and 0 wherever nothing is shared (also for boxes without area)."""
    return torch.where(part > 0, part / whole, part.new_zeros(()))


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Intersection over union of each box of ``boxes1`` (N) with each of ``boxes2`` (M), shape (N, M)."""
    shared = pairwise_intersection(boxes1, boxes2)
    return _ratio(shared, boxes1.area()[:, None] + boxes2.area()[None] - shared)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """The share of each box of ``boxes2`` (M) that lies within each of ``boxes1`` (N), shape (N, M)."""
    return _ratio(pairwise_intersection(boxes1, boxes2), boxes2.area()[None])


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Intersection over union of the i-th box of ``boxes1`` with the i-th of ``boxes2``, shape (N,).

    Raises:
        ValueError: the two do not hold the same number of boxes.
    """
    if len(boxes1) != len(boxes2):
        raise ValueError(f"as many boxes are needed on both sides, but {len(boxes1)} and {len(boxes2)} were received")
    a, b = boxes1.tensor, boxes2.tensor
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    shared = size.prod(dim=-1)
    return _ratio(shared, boxes1.area() + boxes2.area() - shared)
