"""The nodes of a lazy config: dicts and lists with attributes, and references between them."""

from __future__ import annotations

import copy
import re
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Any

from drivetrain.errors import ConfigError, UnknownKeyError, did_you_mean

__all__ = ["LazyList", "LazyNode", "as_node"]

_REFERENCE = re.compile(r"\$\{(\.*)([\w.]+)\}")
_DEEPEST = 30


class LazyNode(dict[str, Any]):
    """A dict whose keys are attributes too; dicts and lists put into it become nodes.

    A text ``"${a.b}"`` stands for the value of ``b`` in ``a`` of the whole config, ``"${.b}"`` for that of ``b`` beside
    it, ``"${..b}"`` one level higher, and so on (a list is a level of its own), whenever it is read.
    """

    __slots__ = ("_above",)
    _above: LazyNode | LazyList | None

    def __init__(self, content: Mapping[str, Any] | None = None, **more: Any) -> None:
        """A node of the same content; further keys by name."""
        super().__init__()
        object.__setattr__(self, "_above", None)
        self.update(content or {}, **more)

    def __getattr__(self, name: str) -> Any:
        """The value of a key."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a key."""
        self[name] = value

    def __delattr__(self, name: str) -> None:
        """Remove a key."""
        del self[name]

    def __getitem__(self, key: str) -> Any:
        """The value of a key, with a reference followed; UnknownKeyError if it is not there."""
        if key not in self:
            raise UnknownKeyError(f"{key!r} is not a key of this part of the config{did_you_mean(str(key), self)}")
        return _followed(super().__getitem__(key), self)

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a key; ConfigError if it is not text."""
        if not isinstance(key, str):
            raise ConfigError(f"{key!r} cannot be a key of a lazy config: keys are text")
        super().__setitem__(key, _adopted(value, self))

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or ``default``."""
        return self[key] if key in self else default  # noqa: SIM401

    def update(self, *content: Any, **more: Any) -> None:
        """Set several keys."""
        for key, value in dict(*content, **more).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a key, set to ``default`` first if it is not there."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key and return its value."""
        if key not in self:
            return super().pop(key, *default)
        value = self[key]
        super().pop(key)
        return value

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Keys and values, references followed."""
        return {key: self[key] for key in self}.items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Values, references followed."""
        return {key: self[key] for key in self}.values()

    def raw_items(self) -> Iterable[tuple[str, Any]]:
        """Keys and values as they were set."""
        return super().items()

    def copy(self) -> LazyNode:
        """A copy; what is below is copied too, as it knows what is above it."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyNode:
        """A copy that stands alone."""
        return LazyNode({key: copy.deepcopy(value, memo) for key, value in super().items()})

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: the content."""
        return LazyNode, (dict(super().items()),)


class LazyList(list[Any]):
    """A list in a lazy config."""

    __slots__ = ("_above",)
    _above: LazyNode | LazyList | None

    def __init__(self, content: Iterable[Any] = ()) -> None:
        """A list of the same content."""
        self._above = None
        super().__init__(_adopted(value, self) for value in content)

    def __getitem__(self, index: Any) -> Any:
        """A value, with a reference followed, or a part of the list."""
        value = super().__getitem__(index)
        return LazyList(value) if isinstance(index, slice) else _followed(value, self)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Set a value."""
        new = [_adopted(one, self) for one in value] if isinstance(index, slice) else _adopted(value, self)
        super().__setitem__(index, new)

    def __iter__(self) -> Iterator[Any]:
        """The values, references followed."""
        return (_followed(value, self) for value in super().__iter__())

    def append(self, value: Any) -> None:
        """Add a value."""
        super().append(_adopted(value, self))

    def extend(self, values: Iterable[Any]) -> None:
        """Add values."""
        super().extend([_adopted(value, self) for value in values])

    def insert(self, index: Any, value: Any) -> None:
        """Put in a value."""
        super().insert(index, _adopted(value, self))

    def raw(self) -> Iterator[Any]:
        """The values as they were set."""
        return super().__iter__()

    def __deepcopy__(self, memo: dict[int, Any]) -> LazyList:
        """A copy that stands alone."""
        return LazyList(copy.deepcopy(value, memo) for value in super().__iter__())

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: the content."""
        return LazyList, (list(super().__iter__()),)


def as_node(value: Any) -> Any:
    """Dicts and lists as nodes; anything else as it is."""
    return _adopted(value, None)


def _adopted(value: Any, above: LazyNode | LazyList | None) -> Any:
    """A value as a node keeps it, knowing what is above it. A node that has another place already is copied."""
    if isinstance(value, (LazyNode, LazyList)):
        if value._above is not None and value._above is not above:
            value = copy.deepcopy(value)
    elif isinstance(value, dict):
        value = LazyNode(value)
    elif type(value) is list or (type(value) is tuple and any(isinstance(one, dict) for one in value)):
        value = LazyList(value)
    else:
        return value
    object.__setattr__(value, "_above", above)
    return value


def _followed(value: Any, node: LazyNode | LazyList, depth: int = 0) -> Any:
    """The value that a reference in ``node`` means, or the value itself."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    dots, path = match.groups()
    start: Any = node
    if dots:
        for _ in dots[1:]:
            start = None if start is None else start._above
    else:
        while start._above is not None:
            start = start._above
    if depth > _DEEPEST:
        raise ConfigError(f"the reference {value} leads to itself")
    *parents, last = path.split(".")
    try:
        for part in parents:
            start = start[int(part)] if isinstance(start, LazyList) else start[part]
        if not isinstance(start, LazyNode):
            return start[int(last)]
        found = dict.__getitem__(start, last)
    except (LookupError, TypeError, ValueError):
        raise ConfigError(f"the reference {value} leads to nothing in this config") from None
    return _followed(found, start, depth + 1)
