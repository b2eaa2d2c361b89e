"""Values of config keys: fitting a value to a declared type, and naming types and values in messages.

Supported types: ``bool``, ``int``, ``float``, ``str``, ``None``, ``Any``, ``Optional``, unions, ``Literal``,
``tuple[T, ...]``, ``tuple[A, B]`` and ``list[T]``. A value is changed only where nothing is lost: an int
where a float is declared, a list where a tuple is, one value where several of its type may stand, a number
written as text.
"""

from __future__ import annotations

import contextlib
import os
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

__all__ = ["convert", "convert_text", "like", "shown", "type_text"]

_LONGEST_SHOWN = 80


def convert(value: Any, kind: Any) -> Any:
    """``value`` as the declared type ``kind``.

    Args:
        value: what was given; numpy scalars and arrays count as plain numbers and lists.
        kind: one of the supported types.

    Raises:
        ValueError: the value does not fit; the message says what was expected and received.
        TypeError: ``kind`` is not a supported type (a mistake in a schema).
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if get_origin(kind) in (tuple, list):
        return _to_sequence(value, kind)
    return _convert_one(value, kind)


def convert_text(text: str, kind: Any) -> Any:
    """The value of type ``kind`` that ``text``, typed on a command line, stands for.

    Raises:
        ValueError: the text does not fit the type.
    """
    from .yaml_text import parse_value

    if kind is str:
        return _unquoted(text)
    try:
        return convert(parse_value(text), kind)
    except ValueError:
        pass
    try:
        return convert(text, kind)
    except ValueError:
        raise _mismatch(text, kind) from None


def like(value: Any, old: Any) -> Any:
    """``value`` in the type of ``old``, an undeclared key's value so far, where nothing is lost by it."""
    if isinstance(old, (tuple, list)) and isinstance(value, (tuple, list)):
        return type(old)(value)
    if type(old) is float and type(value) is int and float(value) == value:
        return float(value)
    return value


def type_text(kind: Any) -> str:
    """A declared type in words: ``int or str``, ``tuple of int``, ``one of 'a', 'b'``."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(type_text(arg) for arg in args)
    if origin is Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin is tuple and Ellipsis not in args:
        return "tuple of (" + ", ".join(type_text(arg) for arg in args) + ")"
    if origin in (tuple, list):
        return f"{origin.__name__} of {type_text(args[0])}"
    if kind is NoneType:
        return "None"
    return "anything" if kind is Any else str(kind.__name__)


def shown(value: Any) -> str:
    """``value`` as a message shows it: its repr, cut to a readable length."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _convert_one(value: Any, kind: Any) -> Any:
    """:func:`convert` inside a sequence, where a single value does not stand for several."""
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _to_union(value, kind)
    if origin is Literal:
        return _to_literal(value, kind)
    if origin in (tuple, list):
        return _to_items(value, kind)
    if kind not in (bool, int, float, str, NoneType):
        raise TypeError(f"{kind!r} is not a type that a config key can have")
    return _to_scalar(value, kind)


def _to_scalar(value: Any, kind: type) -> Any:
    if type(value) is kind:
        return value
    if isinstance(value, str) and kind is not str:
        value = _literal(value, kind)
    if isinstance(value, bool) and kind is not bool:
        raise _mismatch(value, kind)
    if kind in (int, float) and isinstance(value, (int, float)):
        return _to_number(value, kind)
    if kind is str and isinstance(value, (str, os.PathLike)):
        return str(value)
    if isinstance(value, kind):
        return value
    raise _mismatch(value, kind)


def _to_number(value: int | float, kind: type) -> int | float:
    try:
        number: int | float = kind(value)
    except (OverflowError, ValueError):  # int(inf), int(nan), float(10**400)
        raise _mismatch(value, kind) from None
    if number != value and value == value:
        raise _mismatch(value, kind)
    return number


def _literal(text: str, kind: type) -> Any:
    """The Python value that ``text`` spells, or ``text`` itself."""
    if kind is float:
        try:
            return float(text)
        except ValueError:
            return text
    from .yaml_text import python_literal

    return python_literal(text.strip(), text)


def _to_union(value: Any, kind: Any) -> Any:
    members = get_args(kind)
    if type(value) in members:
        return value
    for member in members:
        with contextlib.suppress(ValueError):
            return convert(value, member)
    raise _mismatch(value, kind)


def _to_literal(value: Any, kind: Any) -> Any:
    for choice in get_args(kind):
        if type(value) is type(choice) and value == choice:
            return choice
    raise _mismatch(value, kind)


def _to_sequence(value: Any, kind: Any) -> Any:
    """A tuple or list of the declared item type; one item may stand for a sequence of one."""
    items = _literal(value, tuple) if isinstance(value, str) else value
    if isinstance(items, (tuple, list)):
        return _to_items(items, kind)
    if get_origin(get_args(kind)[0]) in (tuple, list):
        raise _mismatch(value, kind)
    try:
        return _to_items((value,), kind)
    except ValueError:
        raise _mismatch(value, kind) from None


def _to_items(value: Any, kind: Any) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    fixed = origin is tuple and Ellipsis not in args
    if not isinstance(value, (tuple, list)) or (fixed and len(value) != len(args)):
        raise _mismatch(value, kind)
    kinds = args if fixed else (args[0],) * len(value)
    try:
        return origin(_convert_one(item, item_kind) for item, item_kind in zip(value, kinds, strict=True))
    except ValueError:
        raise _mismatch(value, kind) from None


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        inner = _literal(text, str)
        return inner if isinstance(inner, str) else text
    return text


def _mismatch(value: Any, kind: Any) -> ValueError:
    quote = kind is str and isinstance(value, (bool, int, float, NoneType))
    hint = "; write it in quotes" if quote else ""
    return ValueError(f"must be {type_text(kind)}, received {shown(value)}{hint}")
