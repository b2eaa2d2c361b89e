"""The feature pyramid (Lin et al., CVPR 2017) over a ResNet, with detectron2's parameter names."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

from .layers import NormConv2d
from .resnet import ResNet

__all__ = ["FPN", "LastLevelMaxPool", "LastLevelP6P7"]


class LastLevelMaxPool(nn.Module):
    """One more level, every second pixel of the coarsest (two-stage detectors)."""

    num_levels = 1
    in_feature = "p5"

    def forward(self, features: Tensor) -> list[Tensor]:
        """The level p6 from p5."""
        return [max_pool2d(features, kernel_size=1, stride=2)]


class LastLevelP6P7(nn.Module):
    """Two more levels by strided convolutions (RetinaNet, FCOS)."""

    num_levels = 2

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "res5") -> None:
        """From ``in_feature``, a stage of the ResNet or a level of the pyramid."""
        super().__init__()
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        for conv in (self.p6, self.p7):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> list[Tensor]:
        """The levels p6 and p7."""
        p6 = self.p6(features)
        return [p6, self.p7(relu(p6))]


class FPN(nn.Module):
    """A pyramid of feature maps with equally many channels.

    Attributes:
        channels: of every level.
        strides: of each level by its name ("p2", ...), in pixels, finest first.
    """

    def __init__(
        self,
        bottom_up: ResNet,
        in_features: Sequence[str],
        out_channels: int,
        top_block: LastLevelMaxPool | LastLevelP6P7,
        *,
        norm: str = "",
        fuse: str = "sum",
    ) -> None:
        """Build it over stages of ``bottom_up``; ``fuse`` adds up ("sum") or averages ("avg") what comes together."""
        super().__init__()
        self._in_features = tuple(in_features)
        self._share = 0.5 if fuse == "avg" else 1.0
        levels = [int(math.log2(bottom_up.strides[name])) for name in in_features]
        for name, level in zip(in_features, levels, strict=True):
            lateral = NormConv2d(bottom_up.channels[name], out_channels, 1, norm=norm)
            output = NormConv2d(out_channels, out_channels, 3, padding=1, norm=norm)
            for conv in (lateral, output):
                nn.init.kaiming_uniform_(conv.weight, a=1)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
        self._levels = tuple(levels)
        self.top_block = top_block
        self.bottom_up = bottom_up
        top = range(levels[-1] + 1, levels[-1] + 1 + top_block.num_levels)
        self.channels = out_channels
        self.strides = {f"p{level}": 2**level for level in (*levels, *top)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps (N, C, H / stride, W / stride) by level, finest first, of normalised images (N, 3, H, W)."""
        stages = self.bottom_up(images)
        maps: dict[int, Tensor] = {}
        above: Tensor | None = None
        for name, level in reversed(list(zip(self._in_features, self._levels, strict=True))):
            merged = self.get_submodule(f"fpn_lateral{level}")(stages[name])
            if above is not None:
                merged = (merged + interpolate(above, scale_factor=2.0, mode="nearest")) * self._share
            above = merged
            maps[level] = self.get_submodule(f"fpn_output{level}")(merged)
        outputs = {f"p{level}": maps[level] for level in self._levels}
        source = self.top_block.in_feature
        more = self.top_block(stages[source] if source in stages else outputs[source])
        for level, features in enumerate(more, start=self._levels[-1] + 1):
            outputs[f"p{level}"] = features
        return outputs
