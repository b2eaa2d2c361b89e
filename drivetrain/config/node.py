"""CfgNode: the config that everything else is given."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple, TypeVar

from drivetrain.errors import ConfigError

from .files import load_yaml_with_base, read_layers
from .merge import Merge
from .problems import Problems, key_text
from .schema import options_of
from .tree import Tree
from .yaml_text import Located, dump_yaml, parse_yaml

__all__ = ["CfgNode", "KeyInfo"]

Self = TypeVar("Self", bound="CfgNode")


class KeyInfo(NamedTuple):
    """What is known of one declared key."""

    key: str
    type_text: str
    default: Any
    doc: str


class CfgNode(Tree):
    """A config: nested keys with typed defaults, merged from YAML files and overrides.

    ``cfg.SOLVER.BASE_LR`` reads and writes a key. It is a ``dict``, and so is every nested node. Assignment
    by attribute is not checked, so that keys of one's own can be added; merges and :meth:`validate` check
    what the schema declares and report all that is wrong at once.
    """

    __slots__ = ()

    def merge_from_file(self, cfg_filename: str | os.PathLike[str], allow_unsafe: bool = False) -> None:
        """Merge a YAML file, after the files that its ``_BASE_`` names.

        Args:
            cfg_filename: the file.
            allow_unsafe: accepted so that code written for detectron2 runs; nothing unsafe is ever loaded.

        Raises:
            UnknownKeyError: keys that do not exist, each with file, line and the closest known keys.
            ConfigError: that and anything else that is wrong; the config is unchanged.
        """
        merge = Merge(self)
        for layer in read_layers(cfg_filename, merge.problems):
            merge.add_layer(layer)
        merge.commit()

    def merge_from_list(self, cfg_list: Sequence[Any] | None) -> None:
        """Merge overrides, ``["KEY", "VALUE"]`` pairs and ``"KEY=VALUE"`` texts in any mixture (None is none).

        Raises:
            UnknownKeyError, ConfigError: as :meth:`merge_from_file`.
        """
        merge = Merge(self)
        merge.add_overrides(cfg_list)
        merge.commit()

    def merge_from_other_cfg(self, cfg_other: dict[str, Any]) -> None:
        """Merge the keys of another config (or nested dicts).

        Raises:
            UnknownKeyError, ConfigError: as :meth:`merge_from_file`.
        """
        merge = Merge(self)
        merge.add_mapping(copy.deepcopy(cfg_other), "other config:")
        merge.commit()

    @classmethod
    def load_cfg(cls: type[Self], cfg_file_obj_or_str: str | IO[str]) -> Self:
        """A config without a schema, from YAML text or an open file of it.

        Raises:
            ConfigError: the text is not YAML, has duplicate keys, or is not a mapping.
        """
        given = cfg_file_obj_or_str
        text, name = (given, "text") if isinstance(given, str) else (given.read(), getattr(given, "name", "file"))
        document = parse_yaml(text, str(name))
        problems = Problems()
        for line, key, message in document.problems:
            problems.add(f"{name}:{line}:", key_text([key]), message)
        problems.raise_if_any()
        if not isinstance(document.data, Located):
            raise ConfigError(f"{name}: a config holds keys and values (SOLVER: ...), received {document.data!r}")
        node = cls(new_allowed=True)
        node.merge_from_other_cfg(document.data)
        node.set_new_allowed(False)
        return node

    @classmethod
    def load_yaml_with_base(cls, filename: str | os.PathLike[str], allow_unsafe: bool = False) -> dict[str, Any]:
        """See :func:`drivetrain.config.load_yaml_with_base`."""
        return load_yaml_with_base(filename, allow_unsafe)

    def dump(self) -> str:
        """The config as YAML text that merges back to an equal config (tuples are written as lists).

        Raises:
            ConfigError: a value is not plain data; the message names its key.
        """
        return dump_yaml(_plain(self, self._path))

    def validate(self) -> None:
        """Check the value of every declared key, as a merge would.

        Raises:
            ConfigError: everything that is wrong.
        """
        self.normalized()

    def normalized(self: Self) -> Self:
        """A checked copy in which every declared value has exactly its declared type.

        ``cfg.DATASETS.TRAIN = "a"``, say, is ``("a",)`` in the copy.

        Raises:
            ConfigError: everything that is wrong.
        """
        problems = Problems()
        copied = self.clone()
        frozen = copied.is_frozen()
        copied.defrost()
        _normalize(copied, problems)
        problems.raise_if_any()
        if frozen:
            copied.freeze()
        return copied

    def describe(self) -> Iterator[KeyInfo]:
        """Every declared key with its type, default and meaning, in the order of the schema."""
        for name, option in (options_of(self._schema) if self._schema else {}).items():
            if option.schema is not None:
                child = type(self).from_schema(option.schema)
                child._settle((*self._path, name), None)
                yield from child.describe()
            else:
                key = key_text((*self._path, name))
                yield KeyInfo(key, option.type_text, copy.deepcopy(option.default), option.doc)

    def __repr__(self) -> str:
        """The config as readable YAML-like text; values that YAML cannot hold are shown by their repr."""
        return dump_yaml(_plain(self, self._path, lenient=True)).rstrip("\n")


def _normalize(node: Tree, problems: Problems) -> None:
    for name, option in (options_of(node._schema) if node._schema else {}).items():
        full = key_text((*node._path, name))
        if name not in node:
            problems.add("", full, "was removed from the config; set it again or leave it at its default")
            continue
        try:
            accepted = option.accept(node[name])
        except ValueError as error:
            problems.add("", full, str(error))
            continue
        if not option.is_node:
            node[name] = accepted
    for child in node.values():
        if isinstance(child, Tree):
            _normalize(child, problems)


def _plain(value: Any, path: tuple[object, ...], *, lenient: bool = False) -> Any:
    """``value`` as the plain data that YAML can hold."""
    if hasattr(value, "tolist") and not isinstance(value, dict):
        value = value.tolist()  # numpy scalars and arrays, tensors
    if isinstance(value, dict):
        return {key: _plain(item, (*path, key), lenient=lenient) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, i), lenient=lenient) for i, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return _builtin(value)
    if isinstance(value, os.PathLike):
        return str(value)
    if lenient:
        return repr(value)
    raise ConfigError(f"{key_text(path)} holds {value!r}, which cannot be written to a config file; use plain values")


def _builtin(value: Any) -> Any:
    """A number or text of a subclass (an IntEnum, say) as the built-in type."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return value if type(value) is kind else kind(value)
    return value
