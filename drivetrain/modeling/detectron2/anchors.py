"""Anchors that are not rounded, at the strides of the feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drivetrain.errors import ModelError, did_you_mean
from drivetrain.structures import Boxes

from .layers import ShapeSpec
from .registry import Registry

__all__ = ["ANCHOR_GENERATORS", "AnchorGenerator", "GivenAnchors", "build_anchors", "cell_anchors", "grid_anchors"]

_UNEQUAL = "{} {} anchors on different levels; the head is the same for all levels, so that each must have equally many"


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """The anchors of one place, (sizes * ratios, 4) XYXY around (0, 0): all ratios of the first size first.

    Args:
        sizes: square roots of the anchors' areas, in pixels.
        aspect_ratios: heights over widths.
    """
    rows = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = math.sqrt(size * size / ratio)
            height = ratio * width
            rows.append((-width / 2, -height / 2, width / 2, height / 2))
    return torch.tensor(rows)


class AnchorGenerator(nn.Module):
    """The anchors of an image, level by level.

    Attributes:
        num_anchors: at each place, the same for all levels.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float = 0.0,
    ) -> None:
        """Define the anchors.

        Args:
            sizes: one list per level, or one for all.
            aspect_ratios: likewise.
            strides: of each level, in pixels.
            offset: of the anchors' centres from the corner of their cell, as a fraction of the stride.

        Raises:
            ModelError: the lists do not fit the levels, or levels have different numbers of anchors.
        """
        super().__init__()
        per_level = [
            self._per_level(*entry, len(strides)) for entry in (("SIZES", sizes), ("ASPECT_RATIOS", aspect_ratios))
        ]
        cells = [cell_anchors(s, r) for s, r in zip(*per_level, strict=True)]
        counts = {len(cell) for cell in cells}
        if len(counts) != 1:
            raise ModelError(_UNEQUAL.format("MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS make", sorted(counts)))
        self.num_anchors = counts.pop()
        self.strides, self.offset = tuple(strides), offset
        for level, cell in enumerate(cells):
            self.register_buffer(f"cell{level}", cell, persistent=False)

    @staticmethod
    def _per_level(key: str, values: Sequence[Sequence[float]], levels: int) -> list[Sequence[float]]:
        lists = list(values) * levels if len(values) == 1 else list(values)
        if len(lists) != levels:
            raise ModelError(
                f"MODEL.ANCHOR_GENERATOR.{key} has {len(lists)} lists, but there are {levels} feature maps: give one "
                "list for all, or one for each"
            )
        return lists

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The anchors of each level, (H * W * num_anchors, 4) XYXY in pixels, in the order of rows, columns, anchors.

        Args:
            features: feature maps (N, C, H, W), one per level.
        """
        return [
            grid_anchors(getattr(self, f"cell{level}"), (maps.shape[-2], maps.shape[-1]), stride, self.offset)
            for level, (maps, stride) in enumerate(zip(features, self.strides, strict=True))
        ]


def grid_anchors(cell: Tensor, size: tuple[int, int], stride: int, offset: float) -> Tensor:
    """The anchors of a feature map, (H * W * A, 4) XYXY in pixels, in the order of rows, columns, anchors.

    Args:
        cell: (A, 4), those of one place around (0, 0).
        size: (H, W) of the feature map.
        stride: of the feature map, in pixels.
        offset: of a place from the corner of its cell, as a fraction of the stride.
    """
    y, x = (
        torch.arange(offset * stride, (count + offset) * stride, stride, dtype=torch.float32, device=cell.device)[
            :count
        ]
        for count in size
    )
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((columns, rows, columns, rows), dim=-1).reshape(-1, 1, 4)
    return (shifts + cell).reshape(-1, 4)


class GivenAnchors(nn.Module):
    """A generator of one's own, in detectron2's form, as the models here use one.

    Attributes:
        num_anchors: at each place, the same for all levels.
    """

    def __init__(self, generator: nn.Module) -> None:
        """Wrap a module that gives a tensor or :class:`Boxes` for each feature map, and the list ``num_anchors``.

        Raises:
            ModelError: levels have different numbers of anchors.
        """
        super().__init__()
        self.generator = generator
        given: Any = generator.num_anchors
        counts = {int(count) for count in ([given] if isinstance(given, int) else given)}
        if len(counts) != 1:
            raise ModelError(_UNEQUAL.format("the anchor generator makes", sorted(counts)))
        self.num_anchors = counts.pop()

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """As :meth:`AnchorGenerator.forward`."""
        return [level.tensor if isinstance(level, Boxes) else level for level in self.generator(list(features))]


ANCHOR_GENERATORS = Registry("ANCHOR_GENERATOR")
"""Classes or functions that make an anchor generator of a config and a list of :class:`ShapeSpec`, one per level."""


def build_anchors(cfg: Any, shapes: Sequence[ShapeSpec]) -> AnchorGenerator | GivenAnchors:
    """The generator of ``MODEL.ANCHOR_GENERATOR``, for feature maps of these shapes.

    Raises:
        ModelError: there is none of that name, or its numbers do not fit the feature maps.
    """
    section = cfg.MODEL.ANCHOR_GENERATOR
    if section.NAME in ANCHOR_GENERATORS:
        return GivenAnchors(ANCHOR_GENERATORS.get(section.NAME)(cfg, list(shapes)))
    if section.NAME != "DefaultAnchorGenerator":
        known = ("DefaultAnchorGenerator", *(name for name, _ in ANCHOR_GENERATORS))
        raise ModelError(
            f"MODEL.ANCHOR_GENERATOR.NAME {section.NAME!r} has no counterpart here"
            f"{did_you_mean(section.NAME, known) or ';'} there are {', '.join(known)}"
        )
    return AnchorGenerator(
        section.SIZES, section.ASPECT_RATIOS, [shape.stride or 0 for shape in shapes], section.OFFSET
    )
