"""The library's losses under names that stay the same from batch to batch and from model size to model size."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from drivetrain.errors import ModelError
from drivetrain.modeling.contract import Losses

__all__ = ["Float32", "detection_weights", "loss_terms"]

_NAME = re.compile(r"(?P<kind>loss_[a-z_]*?[a-z])(?P<stage>_aux|_dn|_enc)?(?P<layer>_\d+)?")
_WEIGHTED = {
    "RTDetrForObjectDetection",
    "RTDetrV2ForObjectDetection",
    "DFineForObjectDetection",
    "Deimv2ForObjectDetection",
}
_UNWEIGHTED = {
    "ForObjectDetection",
    "ConditionalDetrForObjectDetection",
    "DabDetrForObjectDetection",
    "DeformableDetrForObjectDetection",
    "LwDetrForObjectDetection",
    "RfDetrForObjectDetection",
}


def detection_weights(loss_type: str, config: Any) -> dict[str, float] | None:
    """The weight of each kind of loss in a detector's ``output.loss``; None where ``loss_dict`` is weighted already.

    Args:
        loss_type: ``net.loss_type``, the name of the library's loss function.
        config: the model's config.

    Raises:
        ModelError: the library's loss of that name is not known.
    """
    if loss_type in _WEIGHTED:
        return None
    if loss_type not in _UNWEIGHTED:
        raise ModelError(f"how transformers' loss {loss_type!r} weights its terms is not known")
    return {
        "loss_ce": float(getattr(config, "class_loss_coefficient", 1)),
        "loss_bbox": float(config.bbox_loss_coefficient),
        "loss_giou": float(config.giou_loss_coefficient),
    }


def loss_terms(loss_dict: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Losses:
    """The terms of a loss by kind and stage: ``loss_bbox`` (last layer), ``loss_bbox_aux`` (layers before it and the
    encoder), ``loss_bbox_dn`` (denoising).

    Args:
        loss_dict: the library's, one scalar per kind, stage and layer; without ``weights`` all of them count.
        weights: of each kind; others (``cardinality_error``) are no losses.
    """
    terms: Losses = {}
    for name, value in loss_dict.items():
        match = _NAME.fullmatch(name)
        if match is None or (weights is not None and match["kind"] not in weights):
            continue
        stage = {"_dn": "_dn", None: "" if match["layer"] is None else "_aux"}.get(match["stage"], "_aux")
        term = value if weights is None else value * weights[match["kind"]]
        key = match["kind"] + stage
        terms[key] = terms[key] + term if key in terms else term
    return terms


class Float32:
    """A loss function whose tensors become float32 first, outside of mixed precision.

    Some of the library's take logarithms of probabilities, which in half precision are 0 or 1 sooner.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        """Wrap ``function``."""
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns for the same arguments in float32."""
        device = next((value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), "cpu")
        with torch.autocast(device, enabled=False):
            return self.function(*_float32(args), **_float32(kwargs))


def _float32(value: Any) -> Any:
    """Tensors of floats within tuples, lists and dicts as float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if type(value) in (tuple, list):
        return type(value)(_float32(v) for v in value)
    if type(value) is dict:
        return {key: _float32(v) for key, v in value.items()}
    return value
