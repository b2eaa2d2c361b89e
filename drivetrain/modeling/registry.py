"""Model names: what ``MODEL.NAME`` may be.

:data:`MODELS` is the one registry, and with the dataset catalog the only module-level state of the package. It starts
with the names of :mod:`drivetrain.modeling.presets`, whose libraries are imported when a model is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import nn

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError, did_you_mean

from .presets import PRESETS

__all__ = ["MODELS", "Builder", "ModelEntry", "ModelRegistry"]

Builder = Callable[[CfgNode], nn.Module]
"""Makes a model from a config."""


@dataclass(frozen=True)
class ModelEntry:
    """What a model name stands for.

    Attributes:
        builder: the function that makes the model, or where to import it from (``"package.module:function"``).
        values: MODEL.* values (by key without ``MODEL.``) that hold where the config leaves a key at ``""``, 0 or [].
    """

    builder: Builder | str
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def load(self) -> Builder:
        """The builder itself, imported if need be."""
        if not isinstance(self.builder, str):
            return self.builder
        module, _, function = self.builder.partition(":")
        builder: Builder = getattr(importlib.import_module(module), function)
        return builder


class ModelRegistry:
    """Names of models and what they stand for."""

    def __init__(self, entries: Mapping[str, ModelEntry] | None = None) -> None:
        """Start with ``entries``."""
        self._entries: dict[str, ModelEntry] = dict(entries or {})

    def register(self, name: str) -> Callable[[Builder], Builder]:
        """A decorator that gives a builder a name: ``@MODELS.register("mine") def build(cfg): ...``.

        Raises:
            ModelError: the name is taken by another builder.
        """

        def decorate(builder: Builder) -> Builder:
            self._add(name, ModelEntry(builder))
            return builder

        return decorate

    def register_preset(self, name: str, base: str, values: Mapping[str, Any]) -> None:
        """Give a name to a known model with some MODEL.* values of its own.

        Args:
            name: the new name.
            base: a known name, whose builder is used and whose values hold where ``values`` has none.
            values: key without ``MODEL.`` to value, such as ``{"BACKBONE.NAME": "timm/resnet18"}``.

        Raises:
            ModelError: ``name`` is taken or ``base`` is not known.
        """
        entry = self.entry(base)
        self._add(name, ModelEntry(entry.builder, MappingProxyType({**entry.values, **values})))

    def entry(self, name: str) -> ModelEntry:
        """What ``name`` stands for.

        Raises:
            ModelError: the name is not known; the message lists close names and all names.
        """
        if name not in self._entries:
            hint = did_you_mean(name, self._entries) or ";"
            raise ModelError(
                f"MODEL.NAME {name!r} is not a registered model{hint} known names: {', '.join(self.names())}; "
                "your own are added with MODELS.register(name) before the model is built"
            )
        return self._entries[name]

    def remove(self, name: str) -> None:
        """Forget a name; ModelError when it is not known."""
        self.entry(name)
        del self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        """Whether ``name`` is known."""
        return name in self._entries

    def _add(self, name: str, entry: ModelEntry) -> None:
        known = self._entries.get(name, entry)
        if known != entry:
            raise ModelError(f"the model name {name!r} is taken: choose another, or MODELS.remove({name!r}) first")
        self._entries[name] = entry


MODELS = ModelRegistry({name: ModelEntry(builder, values) for name, (builder, values) in PRESETS.items()})
"""The registry that ``build_model`` looks names up in."""
