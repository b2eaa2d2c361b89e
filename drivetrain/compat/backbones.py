"""Backbones with detectron2's arguments: to be derived from, registered, and described in lazy configs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2 import resnet as own
from drivetrain.modeling.detectron2.fpn import FPN
from drivetrain.modeling.detectron2.layers import ShapeSpec, freeze
from drivetrain.modeling.detectron2.resnet import BLOCKS, BasicBlock, BottleneckBlock

from .also_counts import AlsoCounts
from .lazy_targets import target_from_text

__all__ = ["Backbone", "ResNet", "make_default_stages", "make_stage"]


class Backbone(nn.Module, metaclass=AlsoCounts):
    """What a backbone of one's own is derived from; ``isinstance`` finds those of the models here too.

    It sets ``_out_features`` (names, finest first), and by name ``_out_feature_channels`` and ``_out_feature_strides``,
    or overrides :meth:`output_shape`.
    """

    also_counts = (FPN, own.ResNet)
    _out_features: Sequence[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Feature maps by name of images (N, C, H, W)."""
        raise NotImplementedError

    @property
    def size_divisibility(self) -> int:
        """What the images' sides have to be multiples of; 0 for anything."""
        return 0

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature map."""
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }


def make_stage(
    block_class: type[nn.Module] | str,
    num_blocks: int,
    first_stride: int | None = None,
    *,
    in_channels: int,
    out_channels: int,
    **options: Any,
) -> list[nn.Module]:
    """The blocks of a stage.

    Args:
        block_class: called with ``in_channels``, ``out_channels`` and ``options``; or its name, as a config that was
            saved has it.
        num_blocks: how many.
        first_stride: of the first block, the others having 1: what ``stride_per_block`` was in older versions.
        in_channels: of the stage's input.
        out_channels: of every block's output.
        options: further arguments; one that ends with ``_per_block`` is a list with a value for each.

    Raises:
        ModelError: such a list has another length.
        ConfigError: what is named may not be built from a text.
    """
    if first_stride is not None:
        options["stride_per_block"] = [first_stride] + [1] * (num_blocks - 1)
    make = target_from_text(block_class) if isinstance(block_class, str) else block_class
    blocks: list[nn.Module] = []
    for number in range(num_blocks):
        own_options = {}
        for key, value in options.items():
            name = key.removesuffix("_per_block")
            if name != key and len(value) != num_blocks:
                raise ModelError(f"{key} has {len(value)} values, but the stage has {num_blocks} blocks")
            own_options[name] = value if name == key else value[number]
        blocks.append(make(in_channels=in_channels, out_channels=out_channels, **own_options))
        in_channels = out_channels
    return blocks


def make_default_stages(
    depth: int, block_class: type[nn.Module] | str | None = None, **options: Any
) -> list[list[nn.Module]]:
    """The four stages of a ResNet with 18, 34, 50, 101 or 152 layers; ``options`` are those of its blocks.

    Raises:
        ModelError: there is none of that depth.
    """
    if depth not in BLOCKS:
        raise ModelError(f"depth is {depth!r}, but ResNets have {', '.join(map(str, BLOCKS))} layers")
    first, kind = (64, BasicBlock) if depth < 50 else (256, BottleneckBlock)
    stages, channels = [], 64
    for index, count in enumerate(BLOCKS[depth]):
        width = first * 2**index
        if depth >= 50:
            options["bottleneck_channels"] = width // 4
        options["stride_per_block"] = [1 if index == 0 else 2] + [1] * (count - 1)
        stages.append(make_stage(block_class or kind, count, in_channels=channels, out_channels=width, **options))
        channels = width
    return stages


class ResNet(own.ResNet):
    """:class:`drivetrain.modeling.detectron2.resnet.ResNet` with detectron2's arguments, and functions for stages."""

    make_stage = staticmethod(make_stage)
    make_default_stages = staticmethod(make_default_stages)

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequence[Any]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        """Put it together of a stem and the blocks of res2, res3 and so on.

        Raises:
            ModelError: ``num_classes`` are given, or there is no such stage.
        """
        if num_classes is not None:
            raise ModelError(
                f"num_classes is {num_classes!r}, but a ResNet here gives feature maps alone; for a classifier set "
                "MODEL.NAME to one of timm's"
            )
        super().__init__(stem, stages, out_features, freeze_at)

    def freeze(self, freeze_at: int = 0) -> ResNet:
        """Train the first parts no more, the stem being the first; the network itself."""
        for name in ("stem", *own.STAGES)[:freeze_at]:
            if hasattr(self, name):
                freeze(self.get_submodule(name))
        return self
