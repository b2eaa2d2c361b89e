"""Features of boxes: each box from the level of the pyramid that fits its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align, roi_pool

from drivetrain.errors import ModelError

__all__ = ["ROIPooler", "level_of_boxes"]

_CANONICAL_SIZE, _CANONICAL_LEVEL = 224, 4


def level_of_boxes(boxes: Tensor, lowest: int, highest: int) -> Tensor:
    """The pyramid's level for boxes (N, 4), int64 from 0 for ``lowest``.

    A box of 224 pixels belongs to level 4, one twice as large to the next (Lin et al., CVPR 2017, equation 1).
    """
    sizes = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    levels = torch.floor(_CANONICAL_LEVEL + torch.log2(sizes / _CANONICAL_SIZE + 1e-8))
    return levels.clamp(lowest, highest).to(torch.int64) - lowest


class ROIPooler(nn.Module):
    """Cuts features of one size out of feature maps."""

    def __init__(self, size: int, strides: Sequence[int], sampling_ratio: int, kind: str = "ROIAlignV2") -> None:
        """Define the cut.

        Args:
            size: height and width of the result.
            strides: of the levels, in pixels, finest first.
            sampling_ratio: points per cell and axis; 0 adapts it to the box.
            kind: "ROIAlignV2" (half a pixel exact), "ROIAlign" (the older, shifted one) or "ROIPool".

        Raises:
            ModelError: there is no such kind.
        """
        super().__init__()
        if kind not in ("ROIAlignV2", "ROIAlign", "ROIPool"):
            raise ModelError(f"POOLER_TYPE must be ROIAlignV2, ROIAlign or ROIPool, not {kind!r}")
        self.size = size
        self._scales = tuple(1 / stride for stride in strides)
        self._range = (int(strides[0]).bit_length() - 1, int(strides[-1]).bit_length() - 1)
        self._sampling_ratio, self._kind = sampling_ratio, kind

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """The features (N, C, size, size) of all boxes of all images.

        Args:
            features: one (images, C, H, W) per level.
            boxes: (N_i, 4) for each image, XYXY in pixels.
        """
        number = torch.cat([torch.full_like(b[:, :1], k) for k, b in enumerate(boxes)])
        rows = torch.cat((number, torch.cat(list(boxes))), dim=1)
        if len(features) == 1:
            return self._cut(features[0], rows, self._scales[0])
        levels = level_of_boxes(rows[:, 1:], *self._range)
        out = features[0].new_zeros((len(rows), features[0].shape[1], self.size, self.size))
        for level, (maps, scale) in enumerate(zip(features, self._scales, strict=True)):
            here = (levels == level).nonzero().flatten()
            out = out.index_put((here,), self._cut(maps, rows[here], scale).to(out.dtype))
        return out

    def _cut(self, maps: Tensor, rows: Tensor, scale: float) -> Tensor:
        size = (self.size, self.size)
        rows = rows.to(maps.dtype)
        if self._kind == "ROIPool":
            cut: Tensor = roi_pool(maps, rows, size, scale)
        else:
            cut = roi_align(maps, rows, size, scale, self._sampling_ratio, aligned=self._kind == "ROIAlignV2")
        return cut
