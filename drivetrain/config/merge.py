"""Merging files, overrides and other configs into a config, all or nothing.

A :class:`Merge` works on a copy, noting every mistake and every assignment; only a merge without mistakes is
then replayed on the config itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drivetrain.errors import ConfigError

from .files import Layer, unlocated
from .problems import Problems, key_text, suggest
from .tree import Tree
from .values import like, shown
from .yaml_text import Located, parse_value

__all__ = ["Merge"]

Path = tuple[str, ...]
_DEEPEST = 40  # parts of a key


class Merge:
    """One merge into ``target``.

    Raises:
        ConfigError: at construction, if the target is frozen.
    """

    def __init__(self, target: Tree) -> None:
        if target.is_frozen():
            raise ConfigError("nothing can be merged into a frozen config; call defrost() on it first")
        self.problems = Problems()
        self._target = target
        self._draft = target.clone()
        self._assignments: list[tuple[Path, Any]] = []

    def add_layer(self, layer: Layer) -> None:
        """Merge the content of one file."""
        self._add_mapping((), layer.data, layer.origin)

    def add_mapping(self, data: Mapping[Any, Any], origin: str) -> None:
        """Merge nested dicts that came from ``origin``."""
        self._add_mapping((), data, lambda _mapping, _key: origin)

    def add_overrides(self, tokens: Sequence[Any] | None) -> None:
        """Merge ``["KEY", value, "KEY=VALUE", ...]``; texts are read as the key's type wants them."""
        rest = list(tokens or ())
        while rest:
            key = rest.pop(0)
            if not isinstance(key, str) or not key:
                self.problems.add("override", shown(key), "is not a key; write KEY VALUE or KEY=VALUE")
                continue
            if "=" in key:
                key, value = key.split("=", 1)
            elif rest:
                value = rest.pop(0)
            else:
                self.problems.add("override", key_text([key]), "has no value after it")
                break
            self._add_override(key, value)

    def commit(self) -> None:
        """Apply the merge to the target, or raise all mistakes and leave it as it was.

        Raises:
            UnknownKeyError: the only mistakes are keys that do not exist.
            ConfigError: otherwise.
        """
        self.problems.raise_if_any()
        for path, value in self._assignments:
            node: Any = self._target
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = value

    def _add_mapping(self, path: Path, data: Mapping[Any, Any], origin: Callable[[Any, Any], str]) -> None:
        node = self._node(path)
        for key, value in data.items():
            where = origin(data, key)
            if not isinstance(key, str) or not self._may_set(node, key):
                self._add_unknown(where, (*path, key), value)
            elif isinstance(node.get(key), Tree) and isinstance(value, Mapping):
                self._add_mapping((*path, key), value, origin)
            elif isinstance(node.get(key), Tree) and value is None and isinstance(data, Located):
                continue  # "SOLVER:" with nothing under it
            else:
                self._set(where, (*path, key), value, text=False)

    def _add_override(self, key: str, value: Any) -> None:
        where = "override"
        path = tuple(key.split("."))
        if len(path) > _DEEPEST:
            return self.problems.add(where, key_text(path), f"has more than {_DEEPEST} parts, which no key has")
        node: Any = self._draft
        for depth, part in enumerate(path[:-1]):
            if node.get(part) is None and node.is_new_allowed():
                self._assign(path[: depth + 1], {})
            node = node.get(part)
            if not isinstance(node, Tree):
                return self._add_unknown(where, path, value)
        if not path[-1] or not self._may_set(node, path[-1]):
            return self._add_unknown(where, path, value)
        if isinstance(node.get(path[-1]), Tree):
            value = parse_value(value) if isinstance(value, str) else value
            if isinstance(value, Mapping):
                return self._add_mapping(path, value, lambda _mapping, _key: where)
        return self._set(where, path, value, text=isinstance(value, str))

    def _set(self, where: str, path: Path, value: Any, *, text: bool) -> None:
        """Check and assign one leaf; ``text`` says that the value was typed and is yet to be read."""
        node = self._node(path[:-1])
        option, old = node.declared(path[-1]), node.get(path[-1])
        try:
            if option is not None:
                accepted = option.accept_text(value) if text and not option.is_node else option.accept(value)
            elif isinstance(old, Tree):
                raise ValueError(f"must be a section with keys of its own, received {shown(value)}")
            else:
                accepted = value if not text or isinstance(old, str) else parse_value(value)
                accepted = like(accepted, old)
        except ValueError as error:
            self.problems.add(where, self._full(path), str(error))
        else:
            self._assign(path, accepted)

    def _assign(self, path: Path, value: Any) -> None:
        value = unlocated(value)
        self._node(path[:-1])[path[-1]] = value
        self._assignments.append((path, value))

    def _add_unknown(self, where: str, path: tuple[Any, ...], value: Any) -> None:
        full = self._full(path)
        hint = "" if self.problems.is_full else suggest(full, self._known())
        self.problems.add(where, full, f"(= {shown(unlocated(value))}) is not a config key{hint}", unknown=True)

    def _known(self) -> list[str]:
        """All full keys of the draft, sections included."""
        paths = {path[:end] for path, _ in self._draft.leaves() for end in range(1, len(path) + 1)}
        return sorted(self._full(path) for path in paths)

    def _full(self, path: tuple[Any, ...]) -> str:
        return key_text((*self._draft._path, *path))

    def _node(self, path: Path) -> Tree:
        node = self._draft
        for part in path:
            node = node[part]
        return node

    def _may_set(self, node: Tree, key: str) -> bool:
        return key in node or node.declared(key) is not None or node.is_new_allowed()
