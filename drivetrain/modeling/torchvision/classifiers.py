"""Image classifiers from torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torchvision
from torch import nn

from drivetrain.errors import ModelError, did_you_mean

__all__ = ["torchvision_classifier"]


def torchvision_classifier(
    name: str, num_classes: int, options: Mapping[str, Any] = MappingProxyType({})
) -> tuple[nn.Module, tuple[int, int] | None]:
    """torchvision's classifier ``name`` with random weights, and the (height, width) of image it takes, None for any.

    Args:
        name: torchvision's name.
        num_classes: of its logits.
        options: further arguments of the library's function for it (``{"dropout": 0.1}``).

    Raises:
        ModelError: torchvision has no such model, or it does not take the options.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        hint = did_you_mean(name, known) or ";"
        raise ModelError(
            f"network {name!r} (MODEL.NAME or MODEL.BACKBONE.NAME) is not known{hint} torchvision has "
            f"{', '.join(known)}; 'timm/NAME' takes a network from timm"
        )
    made = {**options, "num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        made.setdefault("init_weights", True)  # what it does anyway, but with a warning
    try:
        net = torchvision.models.get_model(name, weights=None, **made)
    except (TypeError, ValueError) as err:
        raise ModelError(
            f"torchvision's {name!r} cannot be made with MODEL.CLASSIFIER.OPTIONS {dict(options)!r}: {err}"
        ) from err
    side = getattr(net, "image_size", None)  # vision transformers with learned position embeddings
    if name.startswith("maxvit"):
        side = options.get("input_size", (224, 224))
    return net, (side, side) if isinstance(side, int) else side
