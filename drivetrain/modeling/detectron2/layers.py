"""Convolutions and their normalisation, under the parameter names that detectron2's checkpoints have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from drivetrain.errors import ModelError, did_you_mean

__all__ = ["NormConv2d", "ShapeSpec", "freeze", "get_norm"]

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "FrozenBN": FrozenBatchNorm2d,
    "GN": lambda channels: nn.GroupNorm(32, channels),
}


@dataclass
class ShapeSpec:
    """What is known of a feature map's shape; None is not known."""

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


def get_norm(norm: str, channels: int, key: str = "NORM") -> nn.Module | None:
    """The normalisation layer of this name; None for "".

    Raises:
        ModelError: there is none of that name, or group norm's 32 groups do not divide the channels.
    """
    if not norm:
        return None
    if norm not in _NORMS:
        raise ModelError(
            f"{key} {norm!r} is no normalisation{did_you_mean(norm, _NORMS) or ';'} there are {', '.join(_NORMS)}, and "
            "'' for none"
        )
    if norm == "GN" and channels % 32:
        raise ModelError(f"{key} is 'GN', which makes 32 groups of channels, but there are {channels} channels")
    return _NORMS[norm](channels)


class NormConv2d(nn.Conv2d):
    """A convolution with its normalisation, named ``norm``, and activation; there is a bias where there is no norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        norm: str = "",
        activation: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Channels and kernel size in pixels; ``options`` are those of ``nn.Conv2d`` (stride, padding, ...)."""
        super().__init__(in_channels, out_channels, kernel_size, bias=not norm, **options)
        layer = get_norm(norm, out_channels)
        if layer is not None:
            self.norm = layer
        self._normalised = layer is not None
        self._activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """Feature maps (N, C_in, H, W) to (N, C_out, H', W')."""
        out = super().forward(input)
        if self._normalised:
            out = self.norm(out)
        return out if self._activation is None else self._activation(out)


def freeze(module: nn.Module) -> None:
    """Stop training a module: no gradients, and batch norms that keep their statistics."""
    for parameter in module.parameters():
        parameter.requires_grad = False
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, name, frozen)
