"""Anchors that are not rounded, at the strides of the feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drivetrain.errors import ModelError

__all__ = ["AnchorGenerator", "cell_anchors"]


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
            raise ModelError(
                f"MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS make {sorted(counts)} anchors on different levels; "
                "the head is the same for all levels, so that each must have equally many"
            )
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
        anchors = []
        for level, (maps, stride) in enumerate(zip(features, self.strides, strict=True)):
            cell: Tensor = getattr(self, f"cell{level}")
            y, x = (
                torch.arange(
                    self.offset * stride,
                    (count + self.offset) * stride,
                    stride,
                    dtype=torch.float32,
                    device=cell.device,
                )[:count]
                for count in maps.shape[-2:]
            )
            rows, columns = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack((columns, rows, columns, rows), dim=-1).reshape(-1, 1, 4)
            anchors.append((shifts + cell).reshape(-1, 4))
        return anchors
