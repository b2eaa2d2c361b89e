"""Model names: what ``MODEL.NAME`` may be.

:data:`MODELS` is, with the catalogs and the registries of :mod:`drivetrain.modeling.detectron2`, the only module-level
state of the package. It starts with the names of :mod:`drivetrain.modeling.presets` and
:mod:`drivetrain.modeling.transformers.presets`, whose libraries are imported when a model is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from drivetrain.errors import ModelError, did_you_mean

from .entry import Builder, ModelEntry
from .presets import LIBRARIES, PRESETS
from .transformers.presets import LIBRARY as TRANSFORMERS_LIBRARY
from .transformers.presets import PRESETS as TRANSFORMERS_PRESETS

__all__ = ["MODELS", "ModelRegistry"]


class ModelRegistry:
    """Names of models and what they stand for."""

    def __init__(
        self, entries: Mapping[str, ModelEntry] | None = None, libraries: Mapping[str, ModelEntry] | None = None
    ) -> None:
        """Start with some names.

        Args:
            entries: by name.
            libraries: by prefix: a name ``prefix/NAME`` stands for this entry with itself as BACKBONE.NAME.
        """
        self._entries: dict[str, ModelEntry] = dict(entries or {})
        self._libraries = MappingProxyType(dict(libraries or {}))

    def register(self, name: str, targets: Sequence[str] = ("boxes",)) -> Callable[[Builder], Builder]:
        """A decorator that gives a builder a name: ``@MODELS.register("mine") def build(cfg): ...``.

        Args:
            name: the name.
            targets: what the model learns from, of :data:`drivetrain.modeling.entry.TARGETS`: ``("boxes", "masks")``,
                ``("sem_seg",)``, ``("classes",)``... The defaults check before a training starts that the dataset has
                it, and load it.

        Raises:
            ModelError: the name is taken by another builder, or a target is not known.
        """
        if isinstance(targets, str):
            targets = (targets,)

        def decorate(builder: Builder) -> Builder:
            self._add(name, ModelEntry(builder, targets=tuple(targets)))
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
        self._add(name, replace(entry, values=MappingProxyType({**entry.values, **values})))

    def entry(self, name: str) -> ModelEntry:
        """What ``name`` stands for.

        Raises:
            ModelError: the name is not known; the message lists close names and all names.
        """
        if name in self._entries:
            return self._entries[name]
        if name in self:
            entry = self._libraries[name.partition("/")[0]]
            return replace(entry, values=MappingProxyType({**entry.values, "BACKBONE.NAME": name}))
        hint = did_you_mean(name, self._entries) or ";"
        prefixed = ", ".join(f"{library}/NAME" for library in self._libraries)
        raise ModelError(
            f"MODEL.NAME {name!r} is not a registered model{hint} known names: {', '.join(self.names())}"
            + (f"; {prefixed} are these libraries' models" if prefixed else "")
            + "; your own are added with MODELS.register(name) before the model is built"
        )

    def remove(self, name: str) -> None:
        """Forget a name; ModelError when it is not known."""
        self.entry(name)
        self._entries.pop(name, None)

    def names(self) -> list[str]:
        """All names, sorted; those with a library's prefix are not among them."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        """Whether ``name`` is known; with a library's prefix, whether the library is."""
        library, _, rest = str(name).partition("/")
        return name in self._entries or bool(rest and library in self._libraries)

    def _add(self, name: str, entry: ModelEntry) -> None:
        known = self._entries.get(name, entry)
        if known != entry:
            raise ModelError(f"the model name {name!r} is taken: choose another, or MODELS.remove({name!r}) first")
        self._entries[name] = entry


MODELS = ModelRegistry({**PRESETS, **TRANSFORMERS_PRESETS}, {**LIBRARIES, "transformers": TRANSFORMERS_LIBRARY})
"""The registry that ``build_model`` looks names up in."""
