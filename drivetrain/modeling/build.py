"""From a config to a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.runtime.compute import prepare_model
from drivetrain.runtime.device import resolve_device

from .registry import MODELS

__all__ = ["build_model"]


def build_model(cfg: CfgNode) -> nn.Module:
    """The model that ``cfg.MODEL.NAME`` names, with random weights, in training mode, on ``cfg.MODEL.DEVICE``.

    Weights are never downloaded; ``cfg.MODEL.WEIGHTS`` is the checkpointer's business. ``MODEL.CHANNELS_LAST`` and
    ``MODEL.COMPILE`` are applied as :func:`drivetrain.runtime.compute.prepare_model` does.

    Raises:
        ModelError: the name is not known, ``MODEL.NUM_CLASSES`` is missing, an option does not fit the model, a
            registered builder returned something that is not a module, or there is no such backend to compile with.
    """
    name, classes = cfg.MODEL.NAME, cfg.MODEL.NUM_CLASSES
    entry = MODELS.entry(name)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ModelError(
            f"MODEL.NUM_CLASSES is {classes!r}, but {name!r} needs at least one class: set MODEL.NUM_CLASSES, or give "
            "a training dataset with class names (DATASETS.TRAIN), from which DefaultTrainer takes it"
        )
    device = resolve_device(cfg.MODEL.DEVICE)
    model = entry.load()(_with_values(cfg, entry.values))
    if not isinstance(model, nn.Module):
        raise ModelError(f"the builder of {name!r} returned {model!r}, which is not an nn.Module")
    compile = cfg.MODEL.get("COMPILE", False) and cfg.MODEL.get("COMPILE_BACKEND", True)
    return prepare_model(model.to(device), channels_last=cfg.MODEL.get("CHANNELS_LAST", False), compile=compile).train()


def _with_values(cfg: CfgNode, values: Mapping[str, Any]) -> CfgNode:
    """A copy of ``cfg`` in which keys under MODEL that are ``""``, 0 or [] have the given values."""
    filled = cfg.clone()
    filled.defrost()
    for key, value in values.items():
        *parents, last = key.split(".")
        node = filled.MODEL
        for parent in parents:
            node = node[parent]
        if not node.get(last):
            setattr(node, last, value)
    return filled
