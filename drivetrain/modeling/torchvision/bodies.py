"""Backbones from torchvision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torchvision
from torch import Tensor, nn

from drivetrain.errors import ModelError, did_you_mean
from drivetrain.modeling.backbones import Body, pick_levels

__all__ = ["StagedFeatures", "torchvision_body"]

_FAMILIES = ("resnet", "resnext", "wide_resnet", "mobilenet_v2", "mobilenet_v3")


class StagedFeatures(nn.ModuleDict):
    """Layers run one after the other, some of whose outputs are kept.

    The layers keep their names (``conv1``, ``layer1``...), so that weights saved by torchvision fit.
    """

    def __init__(self, layers: Mapping[str, nn.Module], kept: Sequence[str]) -> None:
        """Run ``layers`` in their order and return the outputs of those named in ``kept``."""
        super().__init__(dict(layers))
        self._kept = frozenset(kept)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The kept feature maps of images (N, 3, H, W), finest first."""
        maps, x = [], images
        for name, layer in self.items():
            x = layer(x)
            if name in self._kept:
                maps.append(x)
        return maps


def torchvision_body(name: str, strides: Sequence[int]) -> Body:
    """torchvision's ResNet or MobileNet ``name`` with random weights, cut off after the coarsest wanted feature map.

    Raises:
        ModelError: there is no such network here, or not with these strides.
    """
    known = [n for n in torchvision.models.list_models(module=torchvision.models) if n.startswith(_FAMILIES)]
    if name not in known:
        hint = did_you_mean(name, known) or ";"
        raise ModelError(
            f"backbone {name!r} (MODEL.BACKBONE.NAME) is not known{hint} torchvision has {', '.join(known)}; "
            "'timm/NAME' takes a backbone from timm"
        )
    net = torchvision.models.get_model(name, weights=None)
    children = net.features if hasattr(net, "features") else net
    layers = {key: layer for key, layer in children.named_children() if key not in ("avgpool", "fc")}
    measured = _measure(layers)
    names = list(layers)
    places = pick_levels([stride for stride, _ in measured], strides, name)
    kept = [names[place] for place in places]
    used = dict(list(layers.items())[: places[-1] + 1])
    return Body(
        StagedFeatures(used, kept),
        tuple(measured[place][1] for place in places),
        tuple(measured[place][0] for place in places),
        tuple((measured[i][0], (layer,)) for i, layer in enumerate(used.values())),
    )


def _measure(layers: Mapping[str, nn.Module]) -> list[tuple[int, int]]:
    """(stride, channels) of each layer's output, found by running them on a small image."""
    side = 64
    found = []
    x = torch.zeros(1, 3, side, side)
    with torch.no_grad():
        for layer in layers.values():
            x = layer.eval()(x)
            layer.train()
            found.append((side // x.shape[-1], x.shape[1]))
    return found
