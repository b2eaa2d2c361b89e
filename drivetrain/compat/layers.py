"""detectron2's layers, as far as they are more than those of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision.ops
from torch import Tensor, nn

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2 import layers as own
from drivetrain.modeling.detectron2.layers import ShapeSpec
from drivetrain.modeling.detectron2.resnet import BasicBlock, BasicStem, BottleneckBlock

from .also_counts import AlsoCounts

__all__ = [
    "CNNBlockBase",
    "Conv2d",
    "FrozenBatchNorm2d",
    "ShapeSpec",
    "batched_nms",
    "cat",
    "get_norm",
    "nonzero_tuple",
]


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` with an optional norm and activation behind it.

    Attributes:
        norm: applied to the output, or None.
        activation: applied after that, or None.
    """

    def __init__(
        self,
        *args: Any,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take the arguments of ``torch.nn.Conv2d``, and the attributes."""
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        output = super().forward(input)
        if self.norm is not None:
            output = self.norm(output)
        return output if self.activation is None else self.activation(output)


class FrozenBatchNorm2d(torchvision.ops.FrozenBatchNorm2d, metaclass=AlsoCounts):  # type: ignore[misc]
    """``torchvision.ops.FrozenBatchNorm2d``, which can be made of the batch norms of a network."""

    also_counts = (torchvision.ops.FrozenBatchNorm2d,)

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """The module with its batch norms frozen, in place; a batch norm itself gives a new module."""
        if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
            frozen = cls(module.num_features, module.eps)
            if module.running_mean is not None:
                frozen = frozen.to(module.running_mean.device)
            frozen.load_state_dict(module.state_dict(), strict=False)  # it may have no weights
            return frozen
        for name, child in module.named_children():
            setattr(module, name, cls.convert_frozen_batchnorm(child))
        return module


class CNNBlockBase(nn.Module, metaclass=AlsoCounts):
    """What a block of a convolutional network is derived from.

    Attributes:
        in_channels: of its input.
        out_channels: of its output.
        stride: from one to the other.
    """

    also_counts = (BasicBlock, BasicStem, BottleneckBlock)

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Note the numbers."""
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def freeze(self) -> CNNBlockBase:
        """Train it no more, and freeze its batch norms; the block itself."""
        for parameter in self.parameters():
            parameter.requires_grad = False
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """The norm of a name ("BN", "FrozenBN", "GN"...) or function; None for ``""`` and None.

    Raises:
        ModelError: the name is not known.
    """
    if norm is None or isinstance(norm, str):
        return own.get_norm(norm or "", out_channels)
    return norm(out_channels)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``torch.cat`` that gives a single tensor back as it is."""
    if not isinstance(tensors, (list, tuple)):
        raise ModelError(f"cat() takes a list or tuple of tensors, not a {type(tensors).__name__}")
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that remain, by falling score; boxes of different ``idxs`` do not suppress one another.

    Args:
        boxes: (N, 4), XYXY.
        scores: (N,).
        idxs: (N,), such as classes.
        iou_threshold: of two boxes overlapping more, the one with the lower score is dropped.
    """
    from torchvision.ops import batched_nms as torchvision_nms

    kept: Tensor = torchvision_nms(boxes.float(), scores, idxs, iou_threshold)
    return kept


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """Indices of the non-zero elements, a tensor for each dimension."""
    return x.nonzero(as_tuple=True)
