"""From a config to a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any, cast

import torch
from torch import nn

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.runtime.compute import prepare_model
from drivetrain.runtime.device import resolve_device
from drivetrain.runtime.logging import log_first_n

from .entry import Builder
from .freezing import freeze_parameters
from .registry import MODELS

__all__ = ["build_model", "class_count", "class_count_key", "has_meta_architecture"]

_CLASS_COUNTS = {
    "GeneralizedRCNN": "MODEL.ROI_HEADS.NUM_CLASSES",
    "RetinaNet": "MODEL.RETINANET.NUM_CLASSES",
    "FCOS": "MODEL.FCOS.NUM_CLASSES",
}


def build_model(cfg: CfgNode) -> nn.Module:
    """The model that ``cfg.MODEL.NAME`` names, with random weights, in training mode, on ``cfg.MODEL.DEVICE``.

    A config of detectron2, whose ``MODEL.NAME`` is ``""``, has the model that ``MODEL.META_ARCHITECTURE`` and the keys
    beside it describe.

    Weights are never downloaded; ``cfg.MODEL.WEIGHTS`` is the checkpointer's business. ``MODEL.CHANNELS_LAST`` and
    ``MODEL.COMPILE`` are applied as :func:`drivetrain.runtime.compute.prepare_model` does.

    Raises:
        ModelError: the name is not known, ``MODEL.NUM_CLASSES`` is missing, an option does not fit the model, a
            registered builder returned something that is not a module, or there is no such backend to compile with.
    """
    described = has_meta_architecture(cfg)
    name = cfg.MODEL.META_ARCHITECTURE if described else cfg.MODEL.NAME
    builder, values = _described_builder(name) if described else _named_builder(cfg, name)
    device = resolve_device(_device_name(cfg) if described else cfg.MODEL.DEVICE)
    model = builder(_with_values(cfg, values))
    if not isinstance(model, nn.Module):
        raise ModelError(f"the builder of {name!r} returned {model!r}, which is not an nn.Module")
    freeze_parameters(model, cfg.MODEL.get("FREEZE", ()), batch_norm=cfg.MODEL.get("FREEZE_BATCH_NORM", False))
    compile = cfg.MODEL.get("COMPILE", False) and cfg.MODEL.get("COMPILE_BACKEND", True)
    return prepare_model(model.to(device), channels_last=cfg.MODEL.get("CHANNELS_LAST", False), compile=compile).train()


def has_meta_architecture(cfg: CfgNode) -> bool:
    """Whether a config describes its model as detectron2 does, instead of naming one."""
    return not cfg.MODEL.NAME and bool(cfg.MODEL.get("META_ARCHITECTURE"))


def class_count_key(cfg: CfgNode) -> str | None:
    """The key that holds the model's number of classes; None for an architecture of one's own."""
    if not has_meta_architecture(cfg):
        return "MODEL.NUM_CLASSES"
    name = cfg.MODEL.META_ARCHITECTURE
    return None if name in MODELS else _CLASS_COUNTS.get(name)


def class_count(cfg: CfgNode) -> int | None:
    """The model's number of classes, 0 if it is yet to be taken from a dataset; None if :func:`class_count_key` is."""
    key = class_count_key(cfg)
    return None if key is None else cast(int, reduce(getitem, key.split("."), cfg))


def _named_builder(cfg: CfgNode, name: str) -> tuple[Builder, Mapping[str, Any]]:
    entry, classes = MODELS.entry(name), cfg.MODEL.NUM_CLASSES
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ModelError(
            f"MODEL.NUM_CLASSES is {classes!r}, but {name!r} needs at least one class: set MODEL.NUM_CLASSES, or give "
            "a training dataset with class names (DATASETS.TRAIN), from which DefaultTrainer takes it"
        )
    return entry.load(), entry.values


def _described_builder(name: str) -> tuple[Builder, Mapping[str, Any]]:
    if name in MODELS:
        entry = MODELS.entry(name)
        return entry.load(), entry.values
    from .detectron2 import build_detectron2_model

    return build_detectron2_model, {}


def _device_name(cfg: CfgNode) -> str:
    """``MODEL.DEVICE``; detectron2's default is "cuda", also on machines without."""
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        log_first_n(
            logging.WARNING, "MODEL.DEVICE is 'cuda', but there is no CUDA device here: 'auto' is taken", name=__name__
        )
        return "auto"
    return str(cfg.MODEL.DEVICE)


def _with_values(cfg: CfgNode, values: Mapping[str, Any]) -> CfgNode:
    """A copy of ``cfg`` in which keys under MODEL that are ``""``, 0 or [] have the given values."""
    filled = cfg.clone()
    filled.defrost()
    for key, value in values.items():
        *parents, last = key.split(".")
        node = filled.MODEL
        for parent in parents:
            if parent not in node:
                setattr(node, parent, CfgNode())
            node = node[parent]
        if not node.get(last):
            setattr(node, last, value)
    return filled
