"""Configs in which objects are described by the calls that make them, in detectron2's form.

::

    model = LazyCall(torch.nn.Linear)(in_features=3, out_features="${.in_features}")
    model.out_features = 2
    instantiate(model)  # torch.nn.Linear(in_features=3, out_features=2)

A config in Python is a program, and :meth:`LazyConfig.load` runs it. One in YAML is data: what its ``_target_`` texts
may build is listed in :data:`drivetrain.compat.lazy_targets.ALLOWED`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drivetrain.checkpoint.files import atomic_write
from drivetrain.config import load_yaml_with_base
from drivetrain.config.yaml_text import dump_yaml, parse_value
from drivetrain.errors import ConfigError

from .lazy_files import run_config
from .lazy_nodes import LazyList, LazyNode, as_node
from .lazy_targets import locate, name_of, target_from_text

__all__ = ["LazyCall", "LazyConfig", "instantiate"]

_TARGET = "_target_"


class LazyCall:
    """A call that is described, not made: ``LazyCall(Class)(argument=...)`` is a node for :func:`instantiate`."""

    def __init__(self, target: Any) -> None:
        """What is to be called: a class or function, or its dotted name, which is looked up now.

        Raises:
            ConfigError: it cannot be called or found.
        """
        self._target = locate(target) if isinstance(target, str) else target
        if not callable(self._target):
            raise ConfigError(f"LazyCall is given {target!r}, which cannot be called: give a class or a function")

    def __call__(self, **arguments: Any) -> LazyNode:
        """The node, with the arguments as keys."""
        return LazyNode({_TARGET: self._target, **arguments})


def instantiate(cfg: Any, *, allow: Sequence[str] = ()) -> Any:
    """Make what a node describes, its arguments first.

    Args:
        cfg: a node of :class:`LazyCall`, or a list of such; anything else is returned as it is.
        allow: modules or packages whose classes and functions a ``_target_`` in text may name, beside those of
            :data:`drivetrain.compat.lazy_targets.ALLOWED`.

    Raises:
        ConfigError: a text names something that is not allowed, or what is called does not take the arguments.
    """
    if isinstance(cfg, list):
        return [instantiate(value, allow=allow) for value in cfg]
    if not isinstance(cfg, Mapping) or _TARGET not in cfg:
        return cfg
    target = cfg[_TARGET]
    if isinstance(target, str):
        target = target_from_text(target, tuple(allow))
    if not callable(target):
        raise ConfigError(f"{_TARGET} {target!r:.80} is no class or function, nor the name of one")
    arguments = {key: instantiate(value, allow=allow) for key, value in cfg.items() if key != _TARGET}
    try:
        return target(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{_shown(target)} cannot be made with {', '.join(arguments) or 'nothing'}: {error}"
        ) from error


class LazyConfig:
    """Reading, changing and writing lazy configs."""

    @staticmethod
    def load(filename: str | os.PathLike[str], keys: str | Sequence[str] | None = None) -> Any:
        """A config from a file. **One in Python is run**; relative imports in it are of other config files.

        Args:
            filename: a ``.py`` or ``.yaml`` file.
            keys: the name of what is wanted, or several; by default everything.

        Returns:
            A node with all dicts and lists of the file whose names do not start with ``_``; or what ``keys`` names.

        Raises:
            ConfigError: the file is missing or of another kind, or has no such key.
        """
        path = Path(os.path.expanduser(os.fspath(filename)))
        if path.suffix == ".py":
            content = run_config(path)
            wanted = content if keys is not None else {k: v for k, v in content.items() if _is_part(k, v)}
        elif path.suffix in (".yaml", ".yml"):
            wanted = load_yaml_with_base(path)
        else:
            raise ConfigError(f"{path} is no lazy config: give a .py or .yaml file")
        if keys is None:
            return LazyNode(wanted)
        names = [keys] if isinstance(keys, str) else list(keys)
        if missing := [name for name in names if name not in wanted]:
            raise ConfigError(f"{path} has no {missing[0]!r}; it has {', '.join(k for k in wanted if k[0] != '_')}")
        found = tuple(as_node(wanted[name]) for name in names)
        return found[0] if isinstance(keys, str) else found

    @staticmethod
    def load_rel(filename: str, keys: str | Sequence[str] | None = None) -> Any:
        """As :meth:`load`, of a file relative to the one that calls this."""
        caller = sys._getframe(1).f_globals.get("__file__")
        if not caller:
            raise ConfigError(
                "load_rel() is called from no file, so there is nothing it could be relative to: use load()"
            )
        return LazyConfig.load(Path(caller).parent / filename, keys)

    @staticmethod
    def save(cfg: Mapping[str, Any], filename: str | os.PathLike[str]) -> None:
        """Write a config as YAML, with classes and functions by their names.

        Raises:
            ConfigError: a value is not plain data.
            OutputError: the file cannot be written.
        """
        text = dump_yaml(_plain(cfg, ""))
        atomic_write(Path(os.fspath(filename)), lambda stream: stream.write(text.encode()))

    @staticmethod
    def apply_overrides(cfg: Any, overrides: Sequence[str]) -> Any:
        """Set keys by texts like ``"model.depth=50"`` or ``"optimizer.betas=[0.9, 0.99]"``; in place.

        Args:
            cfg: the config.
            overrides: ``KEY=VALUE``, the values as in YAML.

        Returns:
            The config.

        Raises:
            ConfigError: a text is no override, or a key lies below a value that has no keys.
        """
        for override in overrides:
            key, separator, value = override.lstrip("+").partition("=")
            if not separator or not key:
                raise ConfigError(f"the override {override!r} must be KEY=VALUE")
            _set(cfg, key, parse_value(value), override)
        return cfg

    @staticmethod
    def to_py(cfg: Mapping[str, Any], prefix: str = "cfg.") -> str:
        """A config as text that looks like Python, for reading."""
        return "\n".join(f"{prefix}{key} = {_expression(value)}" for key, value in _raw(cfg)) + "\n"


def _is_part(name: str, value: Any) -> bool:
    return not name.startswith("_") and isinstance(value, (dict, list))


def _raw(node: Any) -> Any:
    return node.raw_items() if isinstance(node, LazyNode) else node.items()


def _set(cfg: Any, key: str, value: Any, override: str) -> None:
    *parents, last = key.split(".")
    node = cfg
    for part in parents:
        if isinstance(node, LazyNode) and part not in node:
            node[part] = {}
        node = _child(node, part, override)
        if not isinstance(node, (LazyNode, LazyList)):
            raise ConfigError(f"the override {override!r} goes below {part!r}, which is {node!r} and has no keys")
    if isinstance(node, LazyList):
        _child(node, last, override)
        node[int(last)] = value
    else:
        node[last] = value


def _child(node: Any, part: str, override: str) -> Any:
    if not isinstance(node, LazyList):
        return node[part]
    try:
        return node[int(part)]
    except (ValueError, IndexError):
        raise ConfigError(f"the override {override!r}: {part!r} is no index of a list of {len(node)}") from None


def _plain(value: Any, key: str) -> Any:
    """A value as YAML holds it.

    Raises:
        ConfigError: it cannot.
    """
    if isinstance(value, Mapping):
        return {name: _plain(item, f"{key}.{name}".strip(".")) for name, item in _raw(value)}
    if isinstance(value, (list, tuple)):
        items = value.raw() if isinstance(value, LazyList) else value
        return [_plain(item, f"{key}.{index}") for index, item in enumerate(items)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        return name_of(value)
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return {_TARGET: name_of(type(value)), **_plain(fields, key)}
    raise ConfigError(f"{key} holds {value!r:.80}, which cannot be written to a file; describe it by LazyCall")


def _expression(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [(name, _expression(item)) for name, item in _raw(value) if name != _TARGET]
        if _TARGET in value:
            return f"{_shown(value[_TARGET])}({', '.join(f'{name}={text}' for name, text in pairs)})"
        return "{" + ", ".join(f"{name!r}: {text}" for name, text in pairs) + "}"
    if isinstance(value, (list, tuple)):
        items = value.raw() if isinstance(value, LazyList) else value
        return "[" + ", ".join(map(_expression, items)) + "]"
    return _shown(value) if callable(value) else repr(value)


def _shown(target: Any) -> str:
    try:
        return name_of(target)
    except ConfigError:
        return repr(target)
