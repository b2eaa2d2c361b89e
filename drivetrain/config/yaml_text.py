"""YAML text to values and back, with the line of every key and without anything that could run code.

Built on PyYAML's safe loader. Plain (unquoted) words mean what people who write configs expect: ``1e-4`` is a
float, ``None`` is null, ``(1, 2)`` is a tuple; dates and ``12:30`` stay text. The dumper quotes by the same
rules.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from drivetrain.errors import ConfigError

__all__ = ["Document", "Located", "dump_yaml", "parse_value", "parse_yaml", "python_literal"]

_TAG = "tag:yaml.org,2002:"
_LARGEST_TEXT = 1 << 20  # characters; PyYAML needs about ten seconds for so many
_MOST_NODES = 100_000  # of one document after its aliases are expanded; a config has some hundreds
_DEEPEST = 40  # levels of nesting; a config has four or five
_LONGEST_INT = 1000  # bits; Python refuses to print much longer ones
_TYPES = ("null", "bool", "int", "float", "str", "seq", "map")
_BOOL = "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"
_INT = "[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0o[0-7][0-7_]*|0b[01][01_]*)"
_EXP = "([eE][-+]?[0-9]+)"
_FLOAT = (
    rf"[-+]?([0-9][0-9_]*\.[0-9_]*{_EXP}?|[0-9][0-9_]*{_EXP}|\.[0-9][0-9_]*{_EXP}?|\.(inf|Inf|INF))"
    r"|\.(nan|NaN|NAN)"
)
_NOTHING = object()
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
    # Of the safe loader's types those that configs use; no binary, set, timestamp ...
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag in (None, *(_TAG + t for t in _TYPES))
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[tuple[int, str, str]] = []

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; one that contradicts its explicit tag (``!!int x``) is an error with its line."""
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError):
            problem = f"{str(node.value)[:80]!r} cannot be read as {node.tag.removeprefix(_TAG)}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None
        if type(value) is int and value.bit_length() > _LONGEST_INT:
            raise yaml.constructor.ConstructorError(None, None, "this number is far too long", node.start_mark)
        return value

    def construct_located(self, node: yaml.MappingNode) -> Any:
        """A mapping with the lines of its keys (a generator, as PyYAML wants it for nested nodes)."""
        data = Located()
        yield data
        if not isinstance(node, yaml.MappingNode):  # by an explicit tag
            raise yaml.constructor.ConstructorError(None, None, "a mapping is expected", node.start_mark)
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
        text = str(self.construct_scalar(node))
        return python_literal(text, text)

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
        ConfigError: the text is not YAML, holds tags that are not plain data, or is larger, deeper or expands to
            more values than any config.
    """
    if len(text) > _LARGEST_TEXT:
        raise ConfigError(f"{name}: this has more than {_LARGEST_TEXT} characters, which no config needs")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(Located())
        _Size(name).check(node)
        return Document(loader.construct_document(node), loader.problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{line}: this is not plain YAML: {error.problem}") from None
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: this is not plain YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name}: this YAML is nested too deeply to be a config") from None


def parse_value(text: str) -> Any:
    """The value that ``text`` spells as Python literal or as YAML; text that spells neither is itself."""
    literal = python_literal(text.strip(), _NOTHING)
    if literal is not _NOTHING:
        return literal
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


def python_literal(text: str, otherwise: Any) -> Any:
    """The value that ``text`` spells in Python, or ``otherwise``; nothing in it is evaluated."""
    if len(text) > _LARGEST_TEXT:
        return otherwise
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return otherwise
    return value if _is_modest(value, _DEEPEST) else otherwise


def _is_modest(value: Any, levels: int) -> bool:
    """Whether a Python literal is nested at most ``levels`` deep, and its integers can be printed."""
    if isinstance(value, int):
        return value.bit_length() <= _LONGEST_INT
    if not isinstance(value, (list, tuple, set, dict)):
        return True
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    return levels > 0 and all(_is_modest(part, levels - 1) for part in parts)


class _Size:
    """Refuses documents that are too deep, recursive, or whose aliases expand without bound ("billion laughs")."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sizes: dict[int, tuple[int, int]] = {}

    def check(self, root: yaml.Node) -> None:
        """Raise ConfigError if the document below ``root`` is too large."""
        size, depth = self._measure(root)
        if size > _MOST_NODES:
            raise ConfigError(
                f"{self._name}: this YAML expands to more than {_MOST_NODES} values, which no config needs"
            )
        if depth > _DEEPEST:
            raise ConfigError(
                f"{self._name}: this YAML is nested too deeply to be a config (more than {_DEEPEST} levels)"
            )

    def _measure(self, node: yaml.Node) -> tuple[int, int]:
        """Values (ten characters of text count as one) and levels, each capped."""
        if id(node) not in self._sizes:
            self._sizes[id(node)] = (_MOST_NODES + 1, 0)  # what a node that contains itself finds here
            if isinstance(node, yaml.ScalarNode):
                self._check_text(node)
                result = 1 + len(node.value) // 10, 0
            else:
                parts = [part for child in node.value for part in (child if isinstance(child, tuple) else (child,))]
                below = [self._measure(part) for part in parts]
                result = 1 + sum(size for size, _ in below), 1 + max((depth for _, depth in below), default=0)
            self._sizes[id(node)] = min(result[0], _MOST_NODES + 1), min(result[1], _DEEPEST + 1)
        return self._sizes[id(node)]

    def _check_text(self, node: yaml.ScalarNode) -> None:
        """Refuse what no file name and no output can hold: NUL, and halves of surrogate pairs."""
        if bad := next((c for c in node.value if c == "\0" or "\ud800" <= c <= "\udfff"), ""):
            raise ConfigError(f"{self._name}:{node.start_mark.line + 1}: this text holds {bad!r}; remove it")
