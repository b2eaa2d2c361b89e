"""The library's configs: made from fields that are checked, on a timm backbone if one is asked for."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from drivetrain.errors import ModelError, did_you_mean
from drivetrain.modeling.timm import timm_features

from .families import TIMM_STRIDES
from .library import config_class, quiet

__all__ = ["build_config", "config_from", "merge_fields", "timm_backbone"]

_KEY = "MODEL.TRANSFORMERS.CONFIG"
_SET_BY_OTHER_KEYS = {
    "num_labels": "MODEL.NUM_CLASSES",
    "id2label": "MODEL.NUM_CLASSES",
    "label2id": "MODEL.NUM_CLASSES",
}
_FOR_ANY_SIZE = ("anchor_image_size", "eval_size")


def build_config(
    model_type: str, fields: Mapping[str, Any], num_classes: int, saved: Mapping[str, Any] | None = None
) -> Any:
    """A config of the library with the given fields and number of classes.

    Args:
        model_type: the library's.
        fields: those that differ from the library's defaults; a nested config is a dict with its ``model_type``.
        num_classes: without background.
        saved: the content of a ``config.json``, which takes the place of the library's defaults.

    Raises:
        ModelError: there is no such type or field, or a value of which the library does not approve.
    """
    kind = config_class(model_type)
    _check_fields(kind, fields, _KEY)
    config = config_from(kind, merge_fields(saved or {}, fields), _KEY)
    if config.num_labels != num_classes:
        config.num_labels = num_classes
    return config


def config_from(kind: Any, content: Mapping[str, Any], where: str) -> Any:
    """A config of the library's class ``kind``.

    Args:
        kind: the class.
        content: of a ``config.json``, or a part of it.
        where: where it comes from, for messages.

    Raises:
        ModelError: the library does not approve of a value.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        with quiet():
            config = kind.from_dict(copy.deepcopy(dict(content)))
    except (StrictDataclassError, TypeError, ValueError, KeyError) as err:
        reason = " ".join(str(err).split())
        raise ModelError(f"transformers' {kind.__name__} does not take these values ({where}): {reason}") from err
    for name in _FOR_ANY_SIZE:  # what is laid out for one image size is laid out for each image instead
        if getattr(config, name, None) is not None:
            setattr(config, name, None)
    return config


def merge_fields(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ``base`` with those of ``override`` put over them, within nested configs of one type as well."""
    merged = dict(base)
    for name, value in override.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            model_type = old.get("model_type")
            value = merge_fields(old, value) if value.get("model_type", model_type) == model_type else value
        merged[name] = value
    return merged


def timm_backbone(name: str, model_type: str) -> dict[str, Any]:
    """The fields that put a model on a timm backbone with random weights.

    Args:
        name: ``timm/NAME``.
        model_type: of the model, which says which feature maps it takes.

    Raises:
        ModelError: the model keeps its own backbone, or this one has no such feature maps.
    """
    if model_type not in TIMM_STRIDES:
        raise ModelError(
            f"MODEL.BACKBONE.NAME is {name!r}, but {model_type} has a backbone of its own: leave it at '', or choose "
            f"one of {', '.join(TIMM_STRIDES)}"
        )
    if not name.startswith("timm/"):
        raise ModelError(
            f"MODEL.BACKBONE.NAME {name!r}: transformers models stand on timm's networks, written 'timm/NAME' "
            "('timm/resnet18'), or on their own ('')"
        )
    own = name.removeprefix("timm/")
    net = timm_features(own)
    if str(getattr(net, "output_fmt", "NCHW")).upper().endswith("NHWC"):
        raise ModelError(
            f"backbone {name!r} (MODEL.BACKBONE.NAME) gives feature maps with channels last, which transformers cannot "
            "read: choose another"
        )
    places = {int(stride): place for place, stride in enumerate(net.feature_info.reduction())}
    strides = TIMM_STRIDES[model_type]
    if not set(strides) <= set(places):
        raise ModelError(
            f"backbone {name!r} (MODEL.BACKBONE.NAME) has feature maps of strides {sorted(places)}, but {model_type} "
            f"takes {list(strides)}: choose another"
        )
    indices = net.feature_info.out_indices
    backbone = {
        "model_type": "timm_backbone",
        "backbone": own,
        "out_indices": [int(indices[places[stride]]) for stride in strides],
        "use_pretrained_backbone": False,
    }
    return {"backbone_config": backbone}


def _check_fields(kind: Any, fields: Mapping[str, Any], where: str) -> None:
    """ModelError for a field that a config class does not have, within nested configs as well."""
    known = {field.name.lstrip("_") for field in dataclasses.fields(kind)}
    known |= {"model_type", "use_pretrained_backbone", *kind.attribute_map}
    for name, value in fields.items():
        if name in _SET_BY_OTHER_KEYS:
            raise ModelError(f"{where}.{name} is set by {_SET_BY_OTHER_KEYS[name]}: leave it out")
        if name not in known:
            hint = did_you_mean(name, known) or f"; it has {', '.join(sorted(known - {'model_type'}))}"
            raise ModelError(f"{where}.{name} is not a field of transformers' {kind.__name__}{hint}")
        if isinstance(value, Mapping) and "model_type" in value:
            _check_fields(config_class(value["model_type"]), value, f"{where}.{name}")
        elif name == "backbone_config":
            raise ModelError(f"{where}.{name} needs a model_type ('timm_backbone', 'swin'...), but has {value!r}")
