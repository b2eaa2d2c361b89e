"""Residual networks as detectron2 numbers and names their parts (He et al., CVPR 2016).

torchvision's ResNet fixes the widths of its stages and the place of the stride; here they are what the config says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from drivetrain.errors import ModelError

from .layers import NormConv2d, ShapeSpec, freeze

__all__ = [
    "BLOCKS",
    "BasicBlock",
    "BasicStem",
    "BottleneckBlock",
    "ResNet",
    "ResNetOptions",
    "make_resnet",
    "make_stage",
]

BLOCKS = MappingProxyType(
    {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
)
"""Layers of a ResNet -> the blocks of each stage."""

STAGES = ("res2", "res3", "res4", "res5")


@dataclass(frozen=True)
class ResNetOptions:
    """What makes a ResNet the one it is; the names are those of ``MODEL.RESNETS``."""

    depth: int = 50
    norm: str = "FrozenBN"
    num_groups: int = 1
    width_per_group: int = 64
    stride_in_1x1: bool = True
    res5_dilation: int = 1
    res2_out_channels: int = 256
    stem_out_channels: int = 64

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ModelError: a number has no such network.
        """
        if self.depth not in BLOCKS:
            known = ", ".join(map(str, BLOCKS))
            raise ModelError(f"MODEL.RESNETS.DEPTH is {self.depth!r}, but ResNets have {known} layers")
        if self.depth < 50 and (self.num_groups != 1 or self.res5_dilation != 1 or self.res2_out_channels != 64):
            raise ModelError(
                f"a ResNet of depth {self.depth} (MODEL.RESNETS.DEPTH) has RES2_OUT_CHANNELS 64, NUM_GROUPS 1 and "
                f"RES5_DILATION 1, not {self.res2_out_channels}, {self.num_groups} and {self.res5_dilation}"
            )
        if self.res5_dilation not in (1, 2):
            raise ModelError(f"MODEL.RESNETS.RES5_DILATION must be 1 or 2, not {self.res5_dilation!r}")


def _conv(in_channels: int, out_channels: int, kernel_size: int, **options: Any) -> NormConv2d:
    conv = NormConv2d(in_channels, out_channels, kernel_size, **options)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class BasicStem(nn.Module):
    """The first convolution and pooling: a quarter of the image's size.

    Attributes:
        out_channels, stride: of the output.
    """

    stride = 4

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: str = "BN") -> None:
        """Over images with that many channels."""
        super().__init__()
        self.out_channels = out_channels
        self.conv1 = _conv(in_channels, out_channels, 7, stride=2, padding=3, norm=norm, activation=relu)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to feature maps (N, C, H / 4, W / 4)."""
        return max_pool2d(self.conv1(images), kernel_size=3, stride=2, padding=1)


class Block(nn.Module):
    """What all residual blocks share: the sum of their branch and of their input, or of the latter's projection.

    Attributes:
        out_channels: of the output.
        stride: of the output, in pixels of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        """Project the input where its channels are others than the output's."""
        super().__init__()
        self.out_channels, self.stride = out_channels, stride
        self.shortcut = (
            None if in_channels == out_channels else _conv(in_channels, out_channels, 1, stride=stride, norm=norm)
        )

    def branch(self, features: Tensor) -> Tensor:
        """What is added to the input."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        kept = features if self.shortcut is None else self.shortcut(features)
        return relu(self.branch(features) + kept)


class BasicBlock(Block):
    """Two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm: str = "BN") -> None:
        """The stride is in the first of them."""
        super().__init__(in_channels, out_channels, stride, norm)
        self.conv1 = _conv(in_channels, out_channels, 3, stride=stride, padding=1, norm=norm, activation=relu)
        self.conv2 = _conv(out_channels, out_channels, 3, padding=1, norm=norm)

    def branch(self, features: Tensor) -> Tensor:
        """Through both."""
        return self.conv2(self.conv1(features))  # type: ignore[no-any-return]


class BottleneckBlock(Block):
    """A 3x3 convolution between two 1x1 ones."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: str = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        """``num_groups`` and ``dilation`` are those of the 3x3 convolution, which has the stride or the 1x1 before."""
        super().__init__(in_channels, out_channels, stride, norm)
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        width = bottleneck_channels
        self.conv1 = _conv(in_channels, width, 1, stride=first, norm=norm, activation=relu)
        middle = {"stride": second, "padding": dilation, "dilation": dilation, "groups": num_groups}
        self.conv2 = _conv(width, width, 3, norm=norm, activation=relu, **middle)
        self.conv3 = _conv(width, out_channels, 1, norm=norm)

    def branch(self, features: Tensor) -> Tensor:
        """Through the three."""
        return self.conv3(self.conv2(self.conv1(features)))  # type: ignore[no-any-return]


def make_stage(index: int, options: ResNetOptions, in_channels: int) -> nn.Sequential:
    """Stage ``index`` (0 is res2) over feature maps with that many channels."""
    out_channels = options.res2_out_channels * 2**index
    dilated = index == 3 and options.res5_dilation == 2
    stride = 1 if index == 0 or dilated else 2
    blocks: list[nn.Module] = []
    for number in range(BLOCKS[options.depth][index]):
        source, step = (in_channels, stride) if number == 0 else (out_channels, 1)
        if options.depth < 50:
            blocks.append(BasicBlock(source, out_channels, stride=step, norm=options.norm))
            continue
        blocks.append(
            BottleneckBlock(
                source,
                out_channels,
                bottleneck_channels=options.num_groups * options.width_per_group * 2**index,
                stride=step,
                num_groups=options.num_groups,
                norm=options.norm,
                stride_in_1x1=options.stride_in_1x1,
                dilation=2 if dilated else 1,
            )
        )
    return nn.Sequential(*blocks)


def make_stages(options: ResNetOptions, count: int = 4) -> list[nn.Sequential]:
    """The first ``count`` stages, from res2."""
    stages, channels = [], options.stem_out_channels
    for index in range(count):
        stage = make_stage(index, options, channels)
        stages.append(stage)
        channels = options.res2_out_channels * 2**index
    return stages


class ResNet(nn.Module):
    """A ResNet that returns the outputs of some of its stages.

    Attributes:
        out_features: their names, finest first.
        size_divisibility: of images; 0 as it takes any size.
        padding_constraints: further conditions for :meth:`ImageList.from_tensors`; none.
    """

    size_divisibility = 0
    padding_constraints: ClassVar[Mapping[str, int]] = MappingProxyType({})

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Any],
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        """Put it together.

        Args:
            stem: what comes first.
            stages: of res2, res3 and so on a sequence of blocks. The stem and each block tell ``out_channels`` and
                ``stride``.
            out_features: of "res2", "res3", "res4", "res5"; by default the last stage. Those after the last of them are
                left out.
            freeze_at: how many stages are not trained, the stem being the first.

        Raises:
            ModelError: there is no such stage.
        """
        super().__init__()
        names = STAGES[: len(stages)]
        wanted = names[-1:] if out_features is None else tuple(out_features)
        if not wanted or any(name not in names for name in wanted):
            raise ModelError(f"MODEL.RESNETS.OUT_FEATURES must be of {', '.join(names)}, not {list(wanted)!r}")
        self.out_features = tuple(sorted(wanted))
        self.stem: Any = stem
        self._stages = names[: names.index(self.out_features[-1]) + 1]
        self._shapes: dict[str, ShapeSpec] = {}
        stride = self.stem.stride
        for name, blocks in zip(self._stages, stages, strict=False):
            stride *= math.prod(block.stride for block in blocks)
            self.add_module(name, nn.Sequential(*blocks))
            self._shapes[name] = ShapeSpec(channels=blocks[-1].out_channels, stride=stride)
        for name in ("stem", *self._stages)[:freeze_at]:
            freeze(self.get_submodule(name))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each output, by name."""
        return {name: self._shapes[name] for name in self.out_features}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps (N, C, H / stride, W / stride) by name, of normalised images (N, 3, H, W)."""
        features: Tensor = self.stem(images)
        outputs: dict[str, Tensor] = {}
        for name in self._stages:
            features = self.get_submodule(name)(features)
            if name in self.out_features:
                outputs[name] = features
        return outputs


def make_resnet(
    options: ResNetOptions, out_features: Sequence[str], freeze_at: int = 0, in_channels: int = 3
) -> ResNet:
    """The ResNet of these numbers over images with that many channels, up to the last stage that is asked for.

    Raises:
        ModelError: there is no such stage.
    """
    stem = BasicStem(in_channels, options.stem_out_channels, options.norm)
    count = max((STAGES.index(n) + 1 if n in STAGES else len(STAGES) for n in out_features), default=len(STAGES))
    return ResNet(stem, make_stages(options, count), out_features, freeze_at)
