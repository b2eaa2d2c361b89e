"""The data of a config: a dict whose keys are attributes too, which knows its schema and can be frozen."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from drivetrain.errors import ConfigError, UnknownKeyError

from .problems import key_text, suggest
from .schema import Option, options_of
from .values import shown

__all__ = ["Tree"]

Self = TypeVar("Self", bound="Tree")


class Tree(dict[str, Any]):
    """A node: keys to values or further nodes, ``node.KEY`` and ``node["KEY"]`` alike.

    Keys may be added freely until the node is frozen; a dict that is assigned becomes a node of this class.
    Every item is also kept in the instance's ``__dict__``, so that reading an attribute runs no Python code.
    """

    __slots__ = ("__dict__", "_frozen", "_new_allowed", "_path", "_schema")
    _frozen: bool
    _new_allowed: bool
    _path: tuple[str, ...]
    _schema: type | None

    def __init__(self, init: Mapping[str, Any] | None = None, *, new_allowed: bool = False) -> None:
        """Make a node without a schema.

        Args:
            init: keys and values; nested dicts become nodes.
            new_allowed: whether a merge may bring keys that are not there.
        """
        super().__init__()
        self._set_state(None, (), new_allowed)
        for key, value in (init or {}).items():
            self[key] = value

    @classmethod
    def from_schema(cls: type[Self], schema: type) -> Self:
        """The node of all keys that the dataclass ``schema`` declares, at their defaults."""
        node = cls()
        node._set_state(schema, (), False)
        for name, option in options_of(schema).items():
            node[name] = cls.from_schema(option.schema) if option.schema else copy.deepcopy(option.default)
        return node

    def declared(self, key: str) -> Option | None:
        """What the schema says of ``key``, or None where it says nothing."""
        return options_of(self._schema).get(key) if self._schema else None

    def leaves(self) -> Iterator[tuple[tuple[str, ...], Any]]:
        """All (path, value) pairs below this node that are not nodes themselves; empty nodes count."""
        for key, value in self.items():
            if isinstance(value, Tree) and value:
                yield from (((key, *path), leaf) for path, leaf in value.leaves())
            else:
                yield (key,), value

    # -- reading ----------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """The error for a key that is not there (Python calls this only when it finds no attribute)."""
        if name.startswith("__"):
            raise AttributeError(name)  # protocols that Python probes for are never keys
        return self[name]

    def __missing__(self, key: object) -> NoReturn:
        """Raise UnknownKeyError naming the full key and the closest known ones."""
        hint = suggest(str(key), map(str, self))
        raise UnknownKeyError(f"{key_text((*self._path, key))} is not a key of this config{hint}")

    # -- writing ----------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        """``self[name] = value``."""
        self[name] = value

    def __delattr__(self, name: str) -> None:
        """``del self[name]``."""
        del self[name]

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a key, declared or new; nothing is checked before a merge or ``validate()``.

        Raises:
            ConfigError: the node is frozen, or the key is not text.
        """
        if self._frozen:
            self._refuse(f"set to {shown(value)}", key)
        if not isinstance(key, str):
            raise ConfigError(f"{shown(key)} cannot be a key of {key_text(self._path) or 'the config'}: keys are text")
        self._put(key, self._adopted(key, value))

    def __delitem__(self, key: str) -> None:
        """Remove a key; raises ConfigError if frozen."""
        self._refuse_if_frozen("removed", key)
        super().__delitem__(key)
        self.__dict__.pop(key, None)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys, as ``dict.update`` (nodes are replaced; see ``merge_from_other_cfg``)."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self: Self, other: Any) -> Self:  # type: ignore[override,misc]
        """``update(other)``."""
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of ``key``, set to ``default`` first if it is absent."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        """Remove ``key`` and return its value, as ``dict.pop``; raises ConfigError if frozen."""
        self._refuse_if_frozen("removed", key)
        self.__dict__.pop(key, None)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the last key and value; raises ConfigError if frozen."""
        self._refuse_if_frozen("removed", "a key")
        key, value = super().popitem()
        self.__dict__.pop(key, None)
        return key, value

    def clear(self) -> None:
        """Remove all keys; raises ConfigError if frozen."""
        self._refuse_if_frozen("removed", "a key")
        self.__dict__.clear()
        super().clear()

    # -- freezing and new keys --------------------------------------------------------------------------

    def freeze(self) -> None:
        """Make every change of this node and those below an error."""
        self._set_everywhere("_frozen", True)

    def defrost(self) -> None:
        """Allow changes again."""
        self._set_everywhere("_frozen", False)

    def is_frozen(self) -> bool:
        """Whether changes are errors."""
        return self._frozen

    def set_new_allowed(self, is_new_allowed: bool) -> None:
        """Say, for this node and those below, whether merges may bring keys that are not there."""
        self._set_everywhere("_new_allowed", bool(is_new_allowed))

    def is_new_allowed(self) -> bool:
        """Whether merges may bring keys that are not there."""
        return self._new_allowed

    # -- copying ----------------------------------------------------------------------------------------

    def clone(self: Self) -> Self:
        """A deep copy, frozen if this one is."""
        return copy.deepcopy(self)

    def copy(self: Self) -> Self:
        """A shallow copy: the nodes below are shared."""
        return copy.copy(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """How pickle and copy take the node apart."""
        state = (self._schema, self._path, self._new_allowed, self._frozen)
        return _restored, (type(self), dict(self), state)

    # -- internals --------------------------------------------------------------------------------------

    def _set_state(self, schema: type | None, path: tuple[str, ...], new_allowed: bool, frozen: bool = False) -> None:
        put = object.__setattr__  # the node's own attributes are slots, not keys
        put(self, "_schema", schema)
        put(self, "_path", path)
        put(self, "_new_allowed", new_allowed)
        put(self, "_frozen", frozen)

    def _put(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if not hasattr(type(self), key):  # a method stays a method: node["items"], but node.items()
            self.__dict__[key] = value

    def _set_everywhere(self, name: str, value: bool) -> None:
        object.__setattr__(self, name, value)
        for child in self.values():
            if isinstance(child, Tree):
                child._set_everywhere(name, value)

    def _adopted(self, key: str, value: Any) -> Any:
        """``value`` as it is stored under ``key``: dicts become nodes, nodes learn their place and schema."""
        option = self.declared(key)
        if not isinstance(value, Tree):
            wanted = isinstance(value, dict) and (option is None or option.is_node)
            if not wanted or not all(isinstance(name, str) for name in value):
                return value
            free = option.is_free if option else self._new_allowed
            value = type(self)(value, new_allowed=free)
        elif option is not None and option.is_free:
            value.set_new_allowed(True)
        value._settle((*self._path, key), option.schema if option else None)
        return value

    def _settle(self, path: tuple[str, ...], schema: type | None) -> None:
        object.__setattr__(self, "_path", path)
        if self._schema is None:
            object.__setattr__(self, "_schema", schema)
        for key, child in self.items():
            if isinstance(child, Tree):
                option = self.declared(key)
                child._settle((*path, key), option.schema if option else None)

    def _refuse_if_frozen(self, action: str, key: str) -> None:
        if self._frozen:
            self._refuse(action, key)

    def _refuse(self, action: str, key: object) -> NoReturn:
        full = key_text((*self._path, key))
        raise ConfigError(f"{full} cannot be {action}: the config is frozen; call defrost() on it first")


def _restored(cls: type[Self], items: dict[str, Any], state: tuple[Any, ...]) -> Self:
    """Put a node together again from what :meth:`Tree.__reduce__` gave."""
    node = cls.__new__(cls)
    schema, path, new_allowed, frozen = state
    node._set_state(schema, path, new_allowed, frozen)
    for key, value in items.items():
        node._put(key, value)
    return node
