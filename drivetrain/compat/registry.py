"""Registries of classes by name, in fvcore's form."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from drivetrain.errors import UserInputError, did_you_mean
from drivetrain.modeling.registry import MODELS

__all__ = ["META_ARCH_REGISTRY", "MetaArchRegistry", "Registry"]

_OWN = ("GeneralizedRCNN", "RetinaNet")


class Registry:
    """Objects by their names: ``@R.register()`` over a class or function, ``R.get(name)``.

    Args:
        name: of the registry, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._objects: dict[str, Any] = {}

    def register(self, obj: Any = None) -> Any:
        """Register ``obj`` under its ``__name__`` (returns None), or, without it, decorate a class or function.

        Raises:
            UserInputError: the name is taken by something else.
        """
        if obj is None:
            return self._decorator()
        self._add(obj.__name__, obj)
        return None

    def get(self, name: str) -> Any:
        """The object of a name; KeyError, naming close ones, when there is none."""
        if name not in self._objects:
            raise KeyError(
                f"{self._name} has no {name!r}{did_you_mean(name, self._objects)} "
                f"(registered: {', '.join(self._objects) or 'none'})"
            )
        return self._objects[name]

    def _decorator(self) -> Callable[[Any], Any]:
        def decorate(obj: Any) -> Any:
            self._add(obj.__name__, obj)
            return obj

        return decorate

    def _add(self, name: str, obj: Any) -> None:
        self._check_free(self._objects.get(name, obj), obj, name)
        self._objects[name] = obj

    def _check_free(self, known: Any, obj: Any, name: str) -> None:
        """Raise UserInputError unless both are the same, or made by the same lines of a script that ran twice."""
        if known is not obj and getattr(known, "__qualname__", "") != getattr(obj, "__qualname__", None):
            raise UserInputError(f"{name!r} is already registered in {self._name}: choose another name")

    def __contains__(self, name: object) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._objects.items())

    def __repr__(self) -> str:
        return f"Registry({self._name}: {', '.join(self._objects) or 'nothing'})"


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
