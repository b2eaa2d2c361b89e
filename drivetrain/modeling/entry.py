"""What a model name stands for: how to build the model, and what it learns from."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TARGETS", "Builder", "ModelEntry", "preset"]

Builder = Callable[[CfgNode], "nn.Module"]
"""Makes a model from a config."""

TARGETS: Mapping[str, str] = MappingProxyType(
    {
        "boxes": "gt_boxes and gt_classes of instances",
        "masks": "gt_masks of instances",
        "keypoints": "gt_keypoints of instances",
        "sem_seg": "a label map, sem_seg",
        "panoptic": "gt_masks and gt_classes of instances, one for every segment, stuff included",
        "classes": "one class for the whole image, class_id",
    }
)
"""What a model can learn from -> where a batch entry has it; see :mod:`drivetrain.modeling.contract`."""


@dataclass(frozen=True)
class ModelEntry:
    """What a model name stands for.

    Attributes:
        builder: the function that makes the model, or where to import it from (``"package.module:function"``).
        values: MODEL.* values (by key without ``MODEL.``) that hold where the config leaves a key at ``""``, 0 or [].
        targets: of :data:`TARGETS`, what the model learns from.
    """

    builder: Builder | str
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    targets: tuple[str, ...] = ("boxes",)

    def __post_init__(self) -> None:
        """Check the targets; ModelError for a name that is none."""
        for target in self.targets:
            if target not in TARGETS:
                raise ModelError(
                    f"targets={self.targets!r}: a model does not learn from {target!r}{did_you_mean(target, TARGETS)} "
                    f"(known: {', '.join(TARGETS)})"
                )

    def load(self) -> Builder:
        """The builder itself, imported if need be."""
        if not isinstance(self.builder, str):
            return self.builder
        module, _, function = self.builder.partition(":")
        builder: Builder = getattr(importlib.import_module(module), function)
        return builder


def preset(builder: str, targets: tuple[str, ...] = ("boxes",), **values: Any) -> ModelEntry:
    """An entry written briefly.

    Args:
        builder: where to import it from, below ``drivetrain.modeling`` (``"torchvision.fcos:build_fcos"``).
        targets: what the model learns from.
        values: MODEL.* values, their keys written with ``__`` for the dot (``BACKBONE__NAME="resnet50"``).
    """
    filled = MappingProxyType({key.replace("__", "."): value for key, value in values.items()})
    return ModelEntry(f"drivetrain.modeling.{builder}", filled, tuple(targets))
