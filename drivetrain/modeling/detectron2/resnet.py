"""Residual networks as detectron2 numbers and names their parts (He et al., CVPR 2016).

torchvision's ResNet fixes the widths of its stages and the place of the stride; here they are what the config says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from drivetrain.errors import ModelError

from .layers import NormConv2d, freeze

__all__ = ["ResNet", "ResNetOptions", "make_stage"]

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
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
        if self.depth not in _BLOCKS:
            known = ", ".join(map(str, _BLOCKS))
            raise ModelError(f"MODEL.RESNETS.DEPTH is {self.depth!r}, but ResNets have {known} layers")
        if self.depth < 50 and (self.num_groups != 1 or self.res5_dilation != 1 or self.res2_out_channels != 64):
            raise ModelError(
                f"a ResNet of depth {self.depth} (MODEL.RESNETS.DEPTH) has RES2_OUT_CHANNELS 64, NUM_GROUPS 1 and "
                f"RES5_DILATION 1, not {self.res2_out_channels}, {self.num_groups} and {self.res5_dilation}"
            )
        if self.res5_dilation not in (1, 2):
            raise ModelError(f"MODEL.RESNETS.RES5_DILATION must be 1 or 2, not {self.res5_dilation!r}")


class Stem(nn.Module):
    """The first convolution and pooling: a quarter of the image's size."""

    def __init__(self, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = NormConv2d(3, out_channels, 7, stride=2, padding=3, norm=norm, activation=relu)

    def forward(self, images: Tensor) -> Tensor:
        return max_pool2d(self.conv1(images), kernel_size=3, stride=2, padding=1)


class Block(nn.Module):
    """What all residual blocks share: the sum of their branch and of their input, or of the latter's projection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.shortcut = (
            None if in_channels == out_channels else NormConv2d(in_channels, out_channels, 1, stride=stride, norm=norm)
        )

    def branch(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        kept = features if self.shortcut is None else self.shortcut(features)
        return relu(self.branch(features) + kept)


class BasicBlock(Block):
    """Two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        self.conv1 = NormConv2d(in_channels, out_channels, 3, stride=stride, padding=1, norm=norm, activation=relu)
        self.conv2 = NormConv2d(out_channels, out_channels, 3, padding=1, norm=norm)

    def branch(self, features: Tensor) -> Tensor:
        return self.conv2(self.conv1(features))  # type: ignore[no-any-return]


class BottleneckBlock(Block):
    """A 3x3 convolution between two 1x1 ones; the stride is in the first or the second of them."""

    def __init__(
        self, in_channels: int, width: int, out_channels: int, stride: int, dilation: int, options: ResNetOptions
    ) -> None:
        norm = options.norm
        super().__init__(in_channels, out_channels, stride, norm)
        first, second = (stride, 1) if options.stride_in_1x1 else (1, stride)
        self.conv1 = NormConv2d(in_channels, width, 1, stride=first, norm=norm, activation=relu)
        self.conv2 = NormConv2d(
            width,
            width,
            3,
            stride=second,
            padding=dilation,
            dilation=dilation,
            groups=options.num_groups,
            norm=norm,
            activation=relu,
        )
        self.conv3 = NormConv2d(width, out_channels, 1, norm=norm)

    def branch(self, features: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(features)))  # type: ignore[no-any-return]


def make_stage(index: int, options: ResNetOptions, in_channels: int) -> tuple[nn.Sequential, int]:
    """Stage ``index`` (0 is res2) and its number of output channels."""
    out_channels = options.res2_out_channels * 2**index
    width = options.num_groups * options.width_per_group * 2**index
    dilated = index == 3 and options.res5_dilation == 2
    stride = 1 if index == 0 or dilated else 2
    blocks: list[nn.Module] = []
    for number in range(_BLOCKS[options.depth][index]):
        source, step = (in_channels, stride) if number == 0 else (out_channels, 1)
        if options.depth < 50:
            blocks.append(BasicBlock(source, out_channels, step, options.norm))
        else:
            blocks.append(BottleneckBlock(source, width, out_channels, step, 2 if dilated else 1, options))
    return nn.Sequential(*blocks), out_channels


class ResNet(nn.Module):
    """A ResNet that returns the outputs of some of its stages.

    Attributes:
        channels: of each output, by name.
        strides: of each output, in pixels.
    """

    def __init__(self, options: ResNetOptions, out_features: Sequence[str], freeze_at: int = 0) -> None:
        """Build the stages up to the last one that is asked for.

        Args:
            options: depth, widths and so on.
            out_features: of "res2", "res3", "res4", "res5".
            freeze_at: how many stages are not trained, the stem being the first.

        Raises:
            ModelError: there is no such stage.
        """
        super().__init__()
        unknown = [name for name in out_features if name not in STAGES]
        if unknown or not out_features:
            raise ModelError(f"MODEL.RESNETS.OUT_FEATURES must be of {', '.join(STAGES)}, not {list(out_features)!r}")
        self.out_features = tuple(sorted(out_features))
        self.stem = Stem(options.stem_out_channels, options.norm)
        self.channels: dict[str, int] = {}
        self.strides: dict[str, int] = {}
        channels, stride = options.stem_out_channels, 4
        self._stages = STAGES[: STAGES.index(self.out_features[-1]) + 1]
        for index, name in enumerate(self._stages):
            stage, channels = make_stage(index, options, channels)
            stride *= 1 if index == 0 or (index == 3 and options.res5_dilation == 2) else 2
            self.add_module(name, stage)
            self.channels[name], self.strides[name] = channels, stride
        self._initialise()
        for name in ("stem", *self._stages)[:freeze_at]:
            freeze(self.get_submodule(name))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps (N, C, H / stride, W / stride) by name, of normalised images (N, 3, H, W)."""
        features: Tensor = self.stem(images)
        outputs: dict[str, torch.Tensor] = {}
        for name in self._stages:
            features = self.get_submodule(name)(features)
            if name in self.out_features:
                outputs[name] = features
        return outputs
