"""Registries of classes by name, in fvcore's form."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from drivetrain.modeling.detectron2.registry import Registry
from drivetrain.modeling.registry import MODELS

__all__ = ["META_ARCH_REGISTRY", "MetaArchRegistry", "Registry"]

_OWN = ("FCOS", "GeneralizedRCNN", "RetinaNet")


class MetaArchRegistry(Registry):
    """Models that ``MODEL.META_ARCHITECTURE`` names: those of :data:`drivetrain.modeling.MODELS`, and detectron2's own.

    What is registered here is what ``build_model`` builds.
    """

    def get(self, name: str) -> Any:
        """The class or function of a name, to be called with a config; KeyError when there is none."""
        if name in MODELS:
            return MODELS.entry(name).load()
        if name in _OWN:
            return getattr(importlib.import_module("drivetrain.compat.modeling"), name)
        return super().get(name)

    def _add(self, name: str, obj: Any) -> None:
        known = MODELS.entry(name).builder if name in MODELS else obj
        self._check_free(known, obj, name)
        if name in MODELS:
            MODELS.remove(name)
        MODELS.register(name)(obj)

    def __contains__(self, name: object) -> bool:
        return name in MODELS or name in _OWN

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, self.get(name)) for name in (*_OWN, *MODELS.names()))


META_ARCH_REGISTRY = MetaArchRegistry("META_ARCH")
"""Classes or functions that make a model of a config: ``@META_ARCH_REGISTRY.register()``."""
