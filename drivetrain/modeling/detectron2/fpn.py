"""The feature pyramid (Lin et al., CVPR 2017) over the stages of a network, with detectron2's parameter names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, relu

from drivetrain.errors import ModelError

from .layers import NormConv2d, ShapeSpec

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
    """Feature maps of one number of channels, the coarser ones joined to the finer.

    Attributes:
        size_divisibility: of images: the coarsest stage has whole cells.
        padding_constraints: further conditions for :meth:`ImageList.from_tensors`; none.
    """

    padding_constraints: ClassVar[Mapping[str, int]] = MappingProxyType({})

    def __init__(
        self,
        bottom_up: nn.Module,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: LastLevelMaxPool | LastLevelP6P7 | None = None,
        fuse_type: str = "sum",
    ) -> None:
        """Build it over stages of a network.

        Args:
            bottom_up: images to feature maps by name, with an ``output_shape()`` that tells their channels and strides.
            in_features: names of those to use, finest first.
            out_channels: of every level.
            norm: after each convolution.
            top_block: adds coarser levels.
            fuse_type: adds up ("sum") or averages ("avg") what comes together.

        Raises:
            ModelError: the network has no such feature, or each stage is not half as large as the one before.
        """
        super().__init__()
        self._in_features = tuple(in_features)
        self._share = 0.5 if fuse_type == "avg" else 1.0
        self._levels, channels = _levels(
            bottom_up, self._in_features, "" if top_block is None else top_block.in_feature
        )
        for level, width in zip(self._levels, channels, strict=True):
            lateral = NormConv2d(width, out_channels, 1, norm=norm)
            output = NormConv2d(out_channels, out_channels, 3, padding=1, norm=norm)
            for conv in (lateral, output):
                nn.init.kaiming_uniform_(conv.weight, a=1)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
        self.top_block = top_block
        self.bottom_up = bottom_up
        coarsest = self._levels[-1]
        self._top = range(coarsest + 1, coarsest + 1 + (0 if top_block is None else top_block.num_levels))
        self._channels = out_channels
        self.size_divisibility = 2**coarsest

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level by its name ("p2", ...), finest first."""
        return {f"p{k}": ShapeSpec(channels=self._channels, stride=2**k) for k in (*self._levels, *self._top)}

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
        if self.top_block is not None:
            source = self.top_block.in_feature
            more = self.top_block(stages[source] if source in stages else outputs[source])
            outputs |= {f"p{level}": features for level, features in zip(self._top, more, strict=True)}
        return outputs


def _levels(bottom_up: Any, names: Sequence[str], top: str) -> tuple[tuple[int, ...], list[int]]:
    """The levels (log2 of the stride) of these features, and their channels; ``top`` is what further levels need."""
    shapes = bottom_up.output_shape()
    if not names or any(name not in shapes for name in names):
        raise ModelError(
            f"MODEL.FPN.IN_FEATURES {list(names)!r} must be of the backbone's features {', '.join(shapes)}"
        )
    levels = tuple(int(math.log2(shapes[name].stride)) for name in names)
    if levels != tuple(range(levels[0], levels[0] + len(levels))):
        raise ModelError(
            f"MODEL.FPN.IN_FEATURES {list(names)!r} have strides {[shapes[n].stride for n in names]}, but in a feature "
            "pyramid each is twice that of the one before"
        )
    if top and top not in (*shapes, *(f"p{level}" for level in levels)):
        raise ModelError(
            f"the pyramid's further levels are made from {top!r}, which is neither of the backbone's features "
            f"{', '.join(shapes)} nor a level over MODEL.FPN.IN_FEATURES {list(names)!r}"
        )
    return levels, [shapes[name].channels for name in names]
