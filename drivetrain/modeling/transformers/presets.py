"""The transformers models that have a name from the start, each a builder and the MODEL.* values that make it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from drivetrain.modeling.entry import ModelEntry, preset

__all__ = ["LIBRARY", "PRESETS"]

_TINY_BACKBONE = "timm/test_resnet"
_TARGETS: Mapping[str, str] = MappingProxyType(
    {
        "detection": "boxes",
        "instance": "masks",
        "semantic": "sem_seg",
        "panoptic": "panoptic",
        "classification": "classes",
    }
)


def _entry(task: str, base: str = "", **values: Any) -> ModelEntry:
    """The model ``base`` of :data:`~drivetrain.modeling.transformers.bases.BASES` for a task."""
    if base:
        values["TRANSFORMERS__BASE"] = base
    return preset("transformers.build:build_transformers", (_TARGETS[task],), TRANSFORMERS__TASK=task, **values)


def _tiny(task: str, base: str) -> ModelEntry:
    return _entry(task, base, BACKBONE__NAME=_TINY_BACKBONE)


PRESETS: Mapping[str, ModelEntry] = MappingProxyType(
    {
        **{name: _entry("detection", name) for name in ("rt_detr_v2", "dfine", "detr", "deformable_detr", "rf_detr")},
        "rt_detr_v2_tiny": _tiny("detection", "rt_detr_v2_tiny"),
        "dfine_tiny": _tiny("detection", "dfine_tiny"),
        "mask2former": _entry("instance", "mask2former"),
        "mask2former_tiny": _tiny("instance", "mask2former_tiny"),
        "mask2former_semantic": _entry("semantic", "mask2former"),
        "mask2former_semantic_tiny": _tiny("semantic", "mask2former_tiny"),
        "mask2former_panoptic": _entry("panoptic", "mask2former"),
        "mask2former_panoptic_tiny": _tiny("panoptic", "mask2former_tiny"),
        "segformer": _entry("semantic", "segformer"),
        "segformer_tiny": _entry("semantic", "segformer_tiny"),
        "upernet": _entry("semantic", "upernet"),
        "upernet_tiny": _tiny("semantic", "upernet_tiny"),
        "vit": _entry("classification", "vit"),
        "vit_tiny": _entry("classification", "vit_tiny"),
        **{f"transformers_{task}": _entry(task) for task in _TARGETS},
    }
)
"""Model name -> entry.

``transformers_detection``, ``transformers_semantic``... build what MODEL.TRANSFORMERS.BASE names: a local folder, or
any model type that the library has for the task.
"""

LIBRARY: ModelEntry = _entry("detection")
"""What ``transformers/BASE`` stands for as a model name: a detector of that folder or model type."""
