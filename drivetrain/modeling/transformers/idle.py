"""Parameters that no loss of the library reaches.

They would only be in the way: distributed training waits for a gradient of each parameter, and weight decay shrinks
what never learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from torch import nn

__all__ = ["freeze_idle"]

_EVERYWHERE = (
    "*mask_token",  # for pretraining by masked patches
    # The norm behind Swin's last layer, where its layers' own outputs are used.
    "backbone.swin.layernorm.*",
    "*.encoder.swin.layernorm.*",
    "*.encoder.model.layernorm.*",
)


def _vit_backbone(config: Any) -> list[str]:
    """Layers behind the last whose output is used."""
    vit = config.backbone_config
    return [f"*.backbone.encoder.layer.{i}.*" for i in range(max(vit.out_indices), vit.num_hidden_layers)]


def _two_stages(config: Any) -> list[str]:
    """There is no loss for the first stage, and no gradient flows through its boxes."""
    if not config.two_stage:
        return []
    last = config.decoder_layers
    return ["*.enc_output.*", "*.enc_output_norm.*", f"*.bbox_embed.{last}.*", f"*.class_embed.{last}.*"]


_BY_CLASS: Mapping[str, Callable[[Any], list[str]]] = MappingProxyType(
    {
        "DeformableDetrForObjectDetection": _two_stages,
        "LwDetrForObjectDetection": _vit_backbone,
        "MobileNetV2ForSemanticSegmentation": lambda config: ["mobilenet_v2.conv_1x1.*"],
        "RfDetrForObjectDetection": _vit_backbone,
    }
)
"""The library's class -> from its config to patterns of parameter names."""


def freeze_idle(net: nn.Module) -> None:
    """Let the parameters of a model of the library that no loss reaches not require gradients."""
    find = _BY_CLASS.get(type(net).__name__)
    patterns = [*_EVERYWHERE, *(find(net.config) if find else [])]
    for name, parameter in net.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
