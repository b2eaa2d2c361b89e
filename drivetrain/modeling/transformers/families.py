"""What the library's detectors differ in: scores, what boxes are fractions of, and the image sizes they can take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from drivetrain.errors import ModelError, did_you_mean

__all__ = ["FAMILIES", "TIMM_STRIDES", "Family", "family_of"]


def _conv_step(config: Any) -> int:
    """Strides up to 32, and maps that are doubled on the way back."""
    return 32


def _patch_step(config: Any) -> int:
    """Whole patches."""
    patch = config.patch_size
    return int(max(patch)) if isinstance(patch, (list, tuple)) else int(patch)


def _window_rows_step(config: Any) -> int:
    """Whole patches in each of the windows, which are counted per side."""
    return _patch_step(config.backbone_config) * int(config.backbone_config.num_windows)


def _windows_step(config: Any) -> int:
    """Whole patches in each of the windows, which are counted over the whole image."""
    return _patch_step(config.backbone_config) * math.isqrt(int(config.backbone_config.num_windows))


@dataclass(frozen=True)
class Family:
    """How a family of detectors is fed and read.

    Attributes:
        scores: ``"sigmoid"``: each class of each query is a detection of its own; ``"softmax"``: a query is one
            detection, and its last class is none.
        frame: what normalised boxes are fractions of. ``"image"``: the image without its padding, which a
            ``pixel_mask`` tells the network; ``"padded"``: all that the network sees.
        step: from a model's config to the number that image height and width have to be multiples of.
        square: whether the network mixes up the patches of images that are not square (RF-DETR's windows do).
        frozen_norm: whether the backbone's batch norms are frozen whatever the config says.
        fields: config fields whose default does not suit training from random weights.
    """

    scores: Literal["sigmoid", "softmax"]
    frame: Literal["image", "padded"]
    step: Callable[[Any], int] = _conv_step
    square: bool = False
    frozen_norm: bool = False
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_EVERY_LAYER = MappingProxyType({"auxiliary_loss": True})
_LIVE_NORM = MappingProxyType({"freeze_backbone_batch_norms": False})
_DETR = Family("softmax", "image", frozen_norm=True, fields=_EVERY_LAYER)
_LATER_DETR = Family("sigmoid", "image", frozen_norm=True, fields=_EVERY_LAYER)
_RT_DETR = Family("sigmoid", "padded", fields=_LIVE_NORM)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "detr": _DETR,
        "table-transformer": _DETR,
        "conditional_detr": _LATER_DETR,
        "dab-detr": _LATER_DETR,
        "deformable_detr": _LATER_DETR,
        "rt_detr": _RT_DETR,
        "rt_detr_v2": _RT_DETR,
        "d_fine": _RT_DETR,
        "deimv2": _RT_DETR,
        "lw_detr": Family(
            "sigmoid",
            "image",
            _windows_step,
            fields=MappingProxyType({"projector_scale_factors": [1.0]}),
        ),
        "rf_detr": Family("sigmoid", "image", _window_rows_step, square=True),
        "yolos": Family("softmax", "padded", _patch_step),
    }
)
"""Model type -> family."""

_FINE_TO_COARSE = (4, 8, 16, 32)
TIMM_STRIDES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("rt_detr", "rt_detr_v2", "d_fine", "deimv2", "deformable_detr"), (8, 16, 32)),
        **dict.fromkeys(("detr", "table-transformer", "conditional_detr", "dab-detr"), _FINE_TO_COARSE),
        **dict.fromkeys(("mask2former", "maskformer", "upernet"), _FINE_TO_COARSE),
    }
)
"""Model type -> strides of the feature maps that it takes from a backbone; types that are not here keep their own."""


def family_of(model_type: str) -> Family:
    """The family of a detector's model type.

    Raises:
        ModelError: it is not known how to train it.
    """
    if model_type not in FAMILIES:
        hint = did_you_mean(model_type, FAMILIES) or ";"
        raise ModelError(
            f"detectors of type {model_type!r} cannot be trained here{hint} known types: {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]
