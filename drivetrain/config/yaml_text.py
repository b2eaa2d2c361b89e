"""YAML text to values and back, with the line of every key and without anything that could run code.

Built on PyYAML's safe loader. Plain (unquoted) words mean what people who write configs expect: ``1e-4`` is a
float, ``None`` is null, ``(1, 2)`` is a tuple; dates and ``12:30`` stay text. The dumper quotes by the same
rules.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from drivetrain.errors import ConfigError

__all__ = ["Document", "Located", "dump_yaml", "parse_value", "parse_yaml"]

_TAG = "tag:yaml.org,2002:"
_MOST_NODES = 100_000  # of one document after its aliases are expanded; a config has some hundreds
_BOOL = "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"
_INT = "[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0o[0-7][0-7_]*|0b[01][01_]*)"
_EXP = "([eE][-+]?[0-9]+)"
_FLOAT = (
    rf"[-+]?([0-9][0-9_]*\.[0-9_]*{_EXP}?|[0-9][0-9_]*{_EXP}|\.[0-9][0-9_]*{_EXP}?|\.(inf|Inf|INF))"
    r"|\.(nan|NaN|NAN)"
)
_NULLS = ("~", "null", "Null", "NULL", "None", "")


def _resolvers() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    """PyYAML's table of what plain words mean: first character -> (tag, pattern)."""
    rules = (
        ("bool", _BOOL, "yYnNtTfFoO"),
        ("int", _INT, "-+0123456789"),
        ("float", _FLOAT, "-+0123456789."),
        ("merge", "<<", "<"),
        ("null", "~|null|Null|NULL|None", "~nN"),
        ("python-literal", r"\(.*\)", "("),
    )
    table: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, firsts in rules:
        for first in firsts:
            table.setdefault(first, []).append((_TAG + tag, re.compile(rf"(?:{pattern})\Z", re.DOTALL)))
    table[""] = [(_TAG + "null", re.compile(r"\Z"))]
    return table


class Located(dict[Any, Any]):
    """A mapping read from YAML; ``lines`` gives the 1-based line of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int] = {}


@dataclass(frozen=True)
class Document:
    """A parsed YAML text: its data and what is wrong with it, as (line, key, message)."""

    data: Any
    problems: list[tuple[int, str, str]] = field(default_factory=list)


class _Loader(yaml.SafeLoader):
    """The safe loader, remembering the lines of keys and refusing what a config must not hold."""

    yaml_implicit_resolvers = _resolvers()

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[tuple[int, str, str]] = []

    def construct_located(self, node: yaml.MappingNode) -> Any:
        """A mapping with the lines of its keys (a generator, as PyYAML wants it for nested nodes)."""
        data = Located()
        yield data
        self._note_duplicates(node)
        self.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key_node.start_mark)
            data[key] = self.construct_object(value_node, deep=True)
            data.lines[key] = key_node.start_mark.line + 1

    def construct_tuple_text(self, node: yaml.ScalarNode) -> Any:
        """``(1, 2)`` as Python reads it; anything else in parentheses stays text."""
        try:
            return ast.literal_eval(node.value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return node.value

    def _note_duplicates(self, node: yaml.MappingNode) -> None:
        first: dict[tuple[str, str], int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            same = (key_node.tag, str(key_node.value))
            if key_node.tag != _TAG + "merge" and same in first:
                message = f"is given twice (first in line {first[same]}); keep one"
                self.problems.append((line, str(key_node.value), message))
            first.setdefault(same, line)


_Loader.add_constructor(_TAG + "map", _Loader.construct_located)
_Loader.add_constructor(_TAG + "python-literal", _Loader.construct_tuple_text)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, quoting whatever the loader above would not read back as text."""

    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated values out instead of as anchors."""
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Text; quoted and escaped where PyYAML would write a line break of Unicode's as it stands and lose it."""
        style = '"' if any(mark in text for mark in "\x85\u2028\u2029\ufeff") else None
        return self.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def parse_yaml(text: str, name: str) -> Document:
    """Parse YAML ``text``; mappings become :class:`Located`.

    Args:
        text: the document; an empty one gives an empty mapping.
        name: where it came from, for messages.

    Raises:
        ConfigError: the text is not YAML, holds tags that are not plain data, or expands to more values than
            any config has.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(Located())
        _check_size(node, name)
        return Document(loader.construct_document(node), loader.problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{line}: this is not plain YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: this is not plain YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name}: this YAML is nested too deeply to be a config") from None


def parse_value(text: str) -> Any:
    """The value that ``text`` spells as Python literal or as YAML; text that spells neither is itself."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    try:
        document = parse_yaml(text, "value")
    except ConfigError:
        return text
    value = document.data
    if isinstance(value, str) or document.problems or (isinstance(value, dict) and not text.lstrip().startswith("{")):
        return text
    return text if value is None and text.strip() not in _NULLS else value


def dump_yaml(data: Any) -> str:
    """Plain ``data`` (dicts, lists, numbers, text, None) as YAML text that :func:`parse_yaml` reads back."""
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110))


def _check_size(root: yaml.Node, name: str) -> None:
    """Refuse documents whose aliases are recursive or expand without bound ("billion laughs")."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_NODES + 1  # what a node that contains itself finds here
            children = node.value if isinstance(node.value, list) else []
            parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
            sizes[id(node)] = min(1 + sum(size(part) for part in parts), _MOST_NODES + 1)
        return sizes[id(node)]

    if size(root) > _MOST_NODES:
        raise ConfigError(f"{name}: this YAML expands to more than {_MOST_NODES} values, which no config needs")
