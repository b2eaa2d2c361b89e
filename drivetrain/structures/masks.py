"""Instance masks, as bitmaps or as polygons, in absolute pixels of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Union

import numpy as np
import torch
from torch import Tensor

from .boxes import Boxes
from .rasterize import polygons_to_bitmask

__all__ = ["BitMasks", "PolygonMasks"]

Index = Union[int, slice, Tensor, "np.ndarray[Any, Any]", Sequence[int]]
"""What N masks are indexed by: one place, a slice, a bool mask (N,) or integer places."""


class BitMasks:
    """N masks as bitmaps.

    Attributes:
        tensor: bool, shape (N, H, W).
    """

    def __init__(self, tensor: Tensor | np.ndarray[Any, Any]) -> None:
        """Hold ``tensor``, converted to bool.

        Raises:
            ValueError: the shape is not (N, H, W).
        """
        masks = torch.as_tensor(tensor, dtype=torch.bool)
        if masks.ndim != 3:
            raise ValueError(f"bitmaps have the shape (N, H, W), but {tuple(masks.shape)} was received")
        self.tensor = masks

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the bitmaps in pixels."""
        return self.tensor.shape[1], self.tensor.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the tensor lies."""
        return self.tensor.device

    def to(self, *args: Any, **kwargs: Any) -> BitMasks:
        """The same masks, moved as ``Tensor.to`` would."""
        return BitMasks(self.tensor.to(*args, **kwargs))

    def area(self) -> Tensor:
        """The number of pixels of each mask, int64, shape (N,)."""
        return self.tensor.flatten(1).sum(dim=1)

    def nonempty(self) -> Tensor:
        """Which masks have a pixel, bool, shape (N,)."""
        return self.tensor.flatten(1).any(dim=1)

    def get_bounding_boxes(self) -> Boxes:
        """The smallest XYXY boxes around the masks (edges past the last pixel); zeros for empty masks."""
        columns, rows = self.tensor.any(dim=1), self.tensor.any(dim=2)
        found = self.nonempty()
        x0, y0 = _first_true(columns), _first_true(rows)
        x1 = columns.shape[1] - _first_true(columns.flip(1))
        y1 = rows.shape[1] - _first_true(rows.flip(1))
        return Boxes(torch.stack((x0, y0, x1, y1), dim=1) * found[:, None])

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Each mask cut out by its box and sampled to a square, bool, shape (N, mask_size, mask_size).

        Args:
            boxes: one XYXY box per mask in pixels, shape (N, 4).
            mask_size: side of the square; a cell is set where its bilinear average is at least 0.5.
        """
        _check_one_box_each(len(self), boxes)
        from torchvision.ops import roi_align

        index = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None]
        maps = self.tensor[:, None].to(boxes.dtype)
        cut = roi_align(maps, torch.cat((index, boxes), dim=1), mask_size, 1.0, 0, aligned=True)
        return torch.as_tensor(cut[:, 0] >= 0.5)

    @staticmethod
    def from_polygon_masks(
        polygon_masks: PolygonMasks | Sequence[Sequence[np.ndarray[Any, Any]]], height: int, width: int
    ) -> BitMasks:
        """The bitmaps (N, height, width) of N instances' polygons."""
        polygons = polygon_masks.polygons if isinstance(polygon_masks, PolygonMasks) else polygon_masks
        masks = [polygons_to_bitmask(p, height, width) for p in polygons]
        return BitMasks(np.stack(masks) if masks else np.zeros((0, height, width), dtype=bool))

    @staticmethod
    def cat(bitmasks_list: Sequence[BitMasks]) -> BitMasks:
        """All masks of the list in order; ValueError for an empty list, which leaves the size unknown."""
        if not bitmasks_list:
            raise ValueError("nothing to join: the list of masks is empty")
        return BitMasks(torch.cat([masks.tensor for masks in bitmasks_list], dim=0))

    def __getitem__(self, item: Index) -> BitMasks:
        """The masks at an integer, slice, bool mask (N,) or integer indices; always BitMasks."""
        picked = self.tensor[item]
        return BitMasks(picked[None] if picked.ndim == 2 else picked)

    def __len__(self) -> int:
        """The number of masks."""
        return self.tensor.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Each mask as a bool tensor (H, W)."""
        yield from self.tensor

    def __repr__(self) -> str:
        """Number and size of the masks."""
        height, width = self.image_size
        return f"BitMasks(num_instances={len(self)}, height={height}, width={width})"


class PolygonMasks:
    """N masks as polygons, each instance the union of one or more.

    Attributes:
        polygons: one list per instance, holding float64 arrays ``[x0, y0, x1, y1, ...]`` in absolute pixels.
    """

    def __init__(self, polygons: Sequence[Sequence[np.ndarray[Any, Any] | Tensor | Sequence[float]]]) -> None:
        """Hold ``polygons``, converted to float64 arrays.

        Raises:
            ValueError: a polygon has an odd number of coordinates or fewer than three points.
        """
        self.polygons = [[_polygon(points) for points in instance] for instance in polygons]

    @property
    def device(self) -> torch.device:
        """Always the CPU: polygons are arrays."""
        return torch.device("cpu")

    def to(self, *args: Any, **kwargs: Any) -> PolygonMasks:
        """These masks themselves: polygons stay on the CPU (this lets Instances with masks be moved)."""
        return self

    def area(self) -> Tensor:
        """The area of each instance in square pixels, float64, shape (N,); overlapping polygons count twice."""
        areas = [sum(_shoelace(p) for p in instance) for instance in self.polygons]
        return torch.tensor(areas, dtype=torch.float64)

    def nonempty(self) -> Tensor:
        """Which instances have a polygon, bool, shape (N,)."""
        return torch.tensor([len(instance) > 0 for instance in self.polygons], dtype=torch.bool)

    def get_bounding_boxes(self) -> Boxes:
        """The smallest XYXY boxes around the polygons; zeros for instances without one."""
        boxes = np.zeros((len(self), 4), dtype=np.float32)
        for row, instance in zip(boxes, self.polygons, strict=True):
            if instance:
                points = np.concatenate(instance).reshape(-1, 2)
                row[:2], row[2:] = points.min(axis=0), points.max(axis=0)
        return Boxes(boxes)

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Each mask stretched from its box to a square and filled there, on the device of ``boxes``.

        Args:
            boxes: one XYXY box per mask in pixels, shape (N, 4); a side counts at least 0.1 pixels.
            mask_size: side of the square.

        Returns:
            bool, shape (N, mask_size, mask_size).
        """
        _check_one_box_each(len(self), boxes)
        crops = np.zeros((len(self), mask_size, mask_size), dtype=bool)
        for i, (box, instance) in enumerate(zip(boxes.detach().cpu().double().numpy(), self.polygons, strict=True)):
            scale = mask_size / np.maximum(box[2:] - box[:2], 0.1)
            moved = [((p.reshape(-1, 2) - box[:2]) * scale).reshape(-1) for p in instance]
            crops[i] = polygons_to_bitmask(moved, mask_size, mask_size)
        return torch.from_numpy(crops).to(boxes.device)

    @staticmethod
    def cat(polymasks_list: Sequence[PolygonMasks]) -> PolygonMasks:
        """All masks of the list in order."""
        return PolygonMasks([instance for masks in polymasks_list for instance in masks.polygons])

    def __getitem__(self, item: Index) -> PolygonMasks:
        """The masks at an integer, slice, bool mask (N,) or integer indices; always PolygonMasks."""
        if isinstance(item, int):
            return PolygonMasks([self.polygons[item]])
        if isinstance(item, slice):
            return PolygonMasks(self.polygons[item])
        index = torch.as_tensor(item)
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise IndexError(f"a mask of shape {tuple(index.shape)} cannot index {len(self)} polygon masks")
            index = index.nonzero()
        return PolygonMasks([self.polygons[i] for i in index.flatten().tolist()])

    def __len__(self) -> int:
        """The number of instances."""
        return len(self.polygons)

    def __iter__(self) -> Iterator[list[np.ndarray[Any, Any]]]:
        """The list of polygons of each instance."""
        return iter(self.polygons)

    def __repr__(self) -> str:
        """The number of instances."""
        return f"PolygonMasks(num_instances={len(self)})"


def _first_true(flags: Tensor) -> Tensor:
    """For each row of bool (N, L) the place of its first True, 0 where there is none."""
    if flags.shape[1] == 0:
        return torch.zeros(flags.shape[0], dtype=torch.int64, device=flags.device)
    return flags.to(torch.uint8).argmax(dim=1)


def _polygon(points: np.ndarray[Any, Any] | Tensor | Sequence[float]) -> np.ndarray[Any, Any]:
    """One polygon as a flat float64 array, checked."""
    flat = points.detach().cpu().numpy() if isinstance(points, Tensor) else points
    array = np.asarray(flat, dtype=np.float64)
    if array.ndim != 1 or array.size % 2 or array.size < 6:
        raise ValueError(f"a polygon is a flat list of 3 or more x, y pairs, but {points!r} was received")
    return array


def _shoelace(polygon: np.ndarray[Any, Any]) -> float:
    """The area enclosed by a flat polygon."""
    x, y = polygon[0::2], polygon[1::2]
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


def _check_one_box_each(count: int, boxes: Tensor) -> None:
    """ValueError unless ``boxes`` has the shape (count, 4)."""
    if boxes.shape != (count, 4):
        raise ValueError(f"one XYXY box per mask is needed, shape ({count}, 4), but {tuple(boxes.shape)} was received")
