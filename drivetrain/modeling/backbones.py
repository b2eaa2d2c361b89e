"""Feature backbones: one interface over torchvision's and timm's networks, and the pyramid on top of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from drivetrain.errors import ModelError

__all__ = ["Body", "FeaturePyramid", "build_body", "freeze_batch_norm", "pick_levels"]


@dataclass(frozen=True)
class Body:
    """A network that turns an image into feature maps.

    Attributes:
        module: takes images (N, 3, H, W) and returns the feature maps as a list, finest first.
        channels: of each feature map.
        strides: image pixels per cell of each feature map.
        stages: (stride, modules) of the parts of the network in their order: what runs up to that stride. Empty
            where the network does not tell.
    """

    module: nn.Module
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    stages: tuple[tuple[int, tuple[nn.Module, ...]], ...]


def build_body(name: str, strides: Sequence[int], *, freeze_at: int = 0, norm: str = "") -> Body:
    """The backbone of that name with random weights, giving feature maps of the wanted strides.

    Args:
        name: torchvision's name (``resnet50``, ``mobilenet_v3_large``), or ``timm/NAME`` for timm's ``NAME``.
        strides: wanted, ascending powers of two; those coarser than the network's coarsest are left out.
        freeze_at: the parts up to stride ``2 ** freeze_at`` are not trained, their batch norms frozen: 1 is a
            ResNet's stem, 2 its first stage as well; 0 trains everything.
        norm: ``""`` the network's own, ``"BN"`` the same but it has to be batch norm, ``"FrozenBN"`` batch norm with
            fixed statistics and weights.

    Raises:
        ModelError: no such network, it gives no such feature maps, or an option does not apply to it.
    """
    if name.startswith("timm/"):
        from .timm import timm_body

        body = timm_body(name.removeprefix("timm/"), strides)
    else:
        from .torchvision.bodies import torchvision_body

        body = torchvision_body(name, strides)
    _apply_norm(body.module, norm, name)
    _freeze(body, freeze_at, name)
    return body


def pick_levels(available: Sequence[int], wanted: Sequence[int], name: str) -> list[int]:
    """Which of the feature maps with strides ``available`` to use, as places: the last of each wanted stride.

    Raises:
        ModelError: a wanted stride that is not coarser than all the network's is not there.
    """
    last = {stride: place for place, stride in enumerate(available)}
    needed = [stride for stride in wanted if stride <= max(available)]
    missing = [stride for stride in needed if stride not in last]
    if missing or not needed:
        raise ModelError(
            f"backbone {name!r} (MODEL.BACKBONE.NAME) has feature maps of strides {sorted(last)}, but "
            f"{list(wanted)} are needed: choose another backbone, or fewer levels in MODEL.ANCHOR_GENERATOR.SIZES"
        )
    return [last[stride] for stride in needed]


def freeze_batch_norm(module: nn.Module, only: Collection[nn.Module] | None = None) -> None:
    """Replace batch norms inside ``module`` by ones with fixed statistics and weights, with the same values.

    Args:
        module: changed in place.
        only: replace no others than these; None replaces all.
    """
    import timm.layers

    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and (only is None or child in only):
                setattr(parent, name, timm.layers.freeze_batch_norm_2d(child))  # type: ignore[attr-defined,no-untyped-call]


def _apply_norm(module: nn.Module, norm: str, name: str) -> None:
    if norm not in ("", "BN", "FrozenBN"):
        raise ModelError(f"MODEL.BACKBONE.NORM {norm!r} is not one of '', 'BN', 'FrozenBN'")
    if norm and not any(isinstance(m, nn.BatchNorm2d) for m in module.modules()):
        raise ModelError(f"MODEL.BACKBONE.NORM is {norm!r}, but backbone {name!r} has no batch norm: set it to ''")
    if norm == "FrozenBN":
        freeze_batch_norm(module)


def _freeze(body: Body, freeze_at: int, name: str) -> None:
    if freeze_at and not body.stages:
        raise ModelError(f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, but backbone {name!r} has no stages: set it to 0")
    if not freeze_at:
        return
    frozen = [m for stride, modules in body.stages if stride <= 2**freeze_at for m in modules]
    for module in frozen:
        module.requires_grad_(False)
    freeze_batch_norm(body.module, {part for module in frozen for part in module.modules()})


class FeaturePyramid(nn.Module):
    """A backbone with a feature pyramid (Lin et al. 2017) on top: every level has the same number of channels.

    Attributes:
        out_channels: of every level.
    """

    def __init__(self, body: Body, out_channels: int, extra: nn.Module | None = None) -> None:
        """Put a pyramid on ``body``.

        Args:
            body: the backbone.
            out_channels: of every level.
            extra: makes further, coarser levels (a torchvision ``ExtraFPNBlock``).
        """
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork

        # The names are torchvision's, so that its detectors' weights fit.
        self.body = body.module
        self.fpn = FeaturePyramidNetwork(list(body.channels), out_channels, extra_blocks=extra)
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The levels of images (N, 3, H, W), finest first, named ``"0"``, ``"1"``... and by ``extra`` beyond."""
        maps = self.body(images)
        levels: dict[str, Any] = self.fpn(OrderedDict((str(i), m) for i, m in enumerate(maps)))
        return levels
