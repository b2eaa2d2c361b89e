"""Schemas: the keys of a config as dataclass fields with a type, a default, a docstring and checks.

::

    @dataclass(frozen=True)
    class Solver:
        '''How the weights are updated.'''

        BASE_LR: float = option(0.001, "Learning rate after the warm-up.", min=0)
        CLIP: Clip = section(Clip)
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_origin

from .values import convert, convert_text, shown, type_text

__all__ = ["Option", "option", "options_of", "section"]

T = TypeVar("T")
_META = "drivetrain.option"


def option(
    default: T,
    doc: str,
    *,
    choices: Sequence[Any] | None = None,
    min: float | None = None,
    max: float | None = None,
    check: Callable[[Any], None] | None = None,
) -> T:
    """A dataclass field that declares one config key.

    Args:
        default: the key's value when nobody sets it.
        doc: what the key means, in a sentence.
        choices: the values allowed, if they are few.
        min: smallest number allowed (each number, for a tuple or list).
        max: largest number allowed.
        check: called with a value of the right type; raises ValueError with the rest of the sentence
            "<key> ..." if the value is not allowed.

    Returns:
        The field (typed as the default, so that a type checker accepts the declaration).
    """
    meta = {_META: {"doc": doc, "choices": choices, "min": min, "max": max, "check": check}}
    value: Any = default
    if isinstance(value, (list, dict)):
        return typing.cast(T, dataclasses.field(default_factory=value.copy, metadata=meta))
    return dataclasses.field(default=default, metadata=meta)


def section(schema: type[T]) -> T:
    """A dataclass field that nests the section declared by the dataclass ``schema``."""
    return dataclasses.field(default_factory=schema)


@dataclass(frozen=True)
class Option:
    """One declared key, or one nested section (``schema`` is set)."""

    name: str
    kind: Any
    default: Any
    doc: str
    choices: Sequence[Any] | None = None
    min: float | None = None
    max: float | None = None
    check: Callable[[Any], None] | None = None
    schema: type | None = None

    @property
    def is_free(self) -> bool:
        """Whether the key holds a dict with keys of the user's own."""
        return self.kind is dict or get_origin(self.kind) is dict

    @property
    def is_node(self) -> bool:
        """Whether the value is a node of the config rather than a leaf."""
        return self.schema is not None or self.is_free

    @property
    def type_text(self) -> str:
        """The type in words."""
        if self.is_node:
            return "section" if self.schema else "dict"
        if self.choices is not None:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        return type_text(self.kind)

    def accept(self, value: Any) -> Any:
        """``value`` in the declared type.

        Raises:
            ValueError: wrong type or not allowed; the message continues the sentence "<key> ...".
        """
        if self.is_node:
            if not isinstance(value, Mapping):
                raise ValueError(f"must be a section with keys of its own, received {shown(value)}")
            return value
        accepted = convert(value, self.kind)
        self._verify(accepted)
        return accepted

    def accept_text(self, text: str) -> Any:
        """The value that ``text``, typed on a command line, stands for; raises as :meth:`accept`."""
        accepted = convert_text(text, self.kind)
        self._verify(accepted)
        return accepted

    def _verify(self, value: Any) -> None:
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"must be {self.type_text}, received {shown(value)}")
        for number in value if isinstance(value, (tuple, list)) else (value,):
            self._verify_bounds(number, value)
        if self.check is not None:
            self.check(value)

    def _verify_bounds(self, number: Any, value: Any) -> None:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return
        # Written so that NaN fails both.
        if (self.min is not None and not number >= self.min) or (self.max is not None and not number <= self.max):
            raise ValueError(f"must be {self._bounds_text()}, received {shown(value)}")

    def _bounds_text(self) -> str:
        if self.min is not None and self.max is not None:
            return f"between {self.min} and {self.max}"
        return f"at most {self.max}" if self.min is None else f"at least {self.min}"


@functools.cache
def options_of(schema: type) -> Mapping[str, Option]:
    """The keys that a schema declares, in the order of its fields.

    Raises:
        TypeError: ``schema`` is not a dataclass, a field was not made by :func:`option` or :func:`section`,
            or its default does not fit its type.
    """
    if not dataclasses.is_dataclass(schema):
        raise TypeError(f"{schema!r} is not a dataclass, so it cannot be the schema of a config")
    kinds = typing.get_type_hints(schema)
    return MappingProxyType({f.name: _option_of(f, kinds[f.name], schema) for f in dataclasses.fields(schema)})


def _option_of(field: dataclasses.Field[Any], kind: Any, schema: type) -> Option:
    where = f"{schema.__name__}.{field.name}"
    if dataclasses.is_dataclass(kind):
        doc = (kind.__doc__ or "").strip()
        return Option(field.name, kind, None, doc, schema=typing.cast(type, kind))
    if _META not in field.metadata:
        raise TypeError(f"{where} is not declared by option(...) or section(...)")
    factory = field.default_factory
    default = factory() if factory is not dataclasses.MISSING else field.default
    declared = Option(field.name, kind, default, **field.metadata[_META])
    try:
        declared.accept(default)
    except ValueError as error:
        raise TypeError(f"the default of {where} {error}") from None
    return declared
