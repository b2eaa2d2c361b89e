"""Anchor generators with detectron2's arguments: to be derived from, registered, and described in lazy configs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.anchors import (
    AnchorGenerator,
    GivenAnchors,
    build_anchors,
    cell_anchors,
    grid_anchors,
)
from drivetrain.modeling.detectron2.layers import ShapeSpec
from drivetrain.structures import Boxes

from .config import configurable

__all__ = ["BufferList", "DefaultAnchorGenerator", "build_anchor_generator", "given_anchors"]


class BufferList(nn.Module):
    """A list of tensors that move with their module and are not saved."""

    def __init__(self, buffers: Iterable[Tensor]) -> None:
        """Keep the tensors."""
        super().__init__()
        for index, buffer in enumerate(buffers):
            self.register_buffer(str(index), buffer, persistent=False)

    def __len__(self) -> int:
        """How many."""
        return len(self._buffers)

    def __iter__(self) -> Iterator[Tensor]:
        """One after the other."""
        return iter(buffer for buffer in self._buffers.values() if buffer is not None)


class DefaultAnchorGenerator(nn.Module):
    """Anchors of some sizes and shapes at every place of every feature map.

    Attributes:
        cell_anchors: of each level (A, 4), XYXY around (0, 0).
        strides: of each level, in pixels.
        num_features: the number of levels.
        offset: of a place from the corner of its cell, as a fraction of the stride.
        box_dim: 4.
    """

    box_dim = 4

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Any],
        aspect_ratios: Sequence[Any],
        strides: Sequence[int],
        offset: float = 0.5,
    ) -> None:
        """``DefaultAnchorGenerator(cfg, shapes)``, or the numbers.

        Args:
            sizes: square roots of areas, in pixels: a list for each level, or one for all.
            aspect_ratios: heights over widths, likewise.
            strides: of each level, in pixels.
            offset: of a place from the corner of its cell, as a fraction of the stride.

        Raises:
            ModelError: the lists do not fit the levels.
        """
        super().__init__()
        self.strides, self.offset = list(strides), offset
        self.num_features = len(self.strides)
        self.cell_anchors = BufferList(self._calculate_anchors(sizes, aspect_ratios))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> dict[str, Any]:
        """The arguments that a config describes for feature maps of these shapes."""
        section = cfg.MODEL.ANCHOR_GENERATOR
        return {
            "sizes": section.SIZES,
            "aspect_ratios": section.ASPECT_RATIOS,
            "strides": [shape.stride for shape in input_shape],
            "offset": section.OFFSET,
        }

    def _calculate_anchors(self, sizes: Sequence[Any], aspect_ratios: Sequence[Any]) -> list[Tensor]:
        per_level = zip(self._per_level("sizes", sizes), self._per_level("aspect_ratios", aspect_ratios), strict=True)
        return [self.generate_cell_anchors(*level).float() for level in per_level]

    def _per_level(self, name: str, values: Sequence[Any]) -> list[Sequence[float]]:
        if values and not isinstance(values[0], Sequence):
            values = [values]
        lists = list(values) * self.num_features if len(values) == 1 else list(values)
        if len(lists) != self.num_features:
            raise ModelError(
                f"{name} has {len(lists)} lists, but there are {self.num_features} feature maps: give one list for "
                "all, or one for each"
            )
        return lists

    def generate_cell_anchors(
        self, sizes: Sequence[float] = (32, 64, 128, 256, 512), aspect_ratios: Sequence[float] = (0.5, 1, 2)
    ) -> Tensor:
        """The anchors of one place, (sizes * ratios, 4) XYXY around (0, 0)."""
        return cell_anchors(sizes, aspect_ratios)

    @property
    def num_anchors(self) -> list[int]:
        """At each place, by level."""
        return [len(cell) for cell in self.cell_anchors]

    @property
    def num_cell_anchors(self) -> list[int]:
        """The same."""
        return self.num_anchors

    def _grid_anchors(self, grid_sizes: Sequence[torch.Size | tuple[int, int]]) -> list[Tensor]:
        levels = zip(self.cell_anchors, grid_sizes, self.strides, strict=True)
        return [grid_anchors(cell, (size[0], size[1]), stride, self.offset) for cell, size, stride in levels]

    def forward(self, features: Sequence[Tensor]) -> list[Boxes]:
        """The anchors of each feature map (N, C, H, W), in the order of rows, columns, anchors."""
        return [Boxes(anchors) for anchors in self._grid_anchors([maps.shape[-2:] for maps in features])]


def build_anchor_generator(cfg: CfgNode, input_shape: Sequence[ShapeSpec]) -> nn.Module:
    """The generator of ``MODEL.ANCHOR_GENERATOR``, for feature maps of these shapes."""
    return build_anchors(cfg, input_shape)


def given_anchors(generator: nn.Module) -> AnchorGenerator | GivenAnchors:
    """A generator of either form as the models here use one."""
    return generator if isinstance(generator, (AnchorGenerator, GivenAnchors)) else GivenAnchors(generator)
