"""Rewriting source text from detectron2's names to this package's, by the table of :mod:`drivetrain.compat.table`.

Import statements, dotted uses of what they bind, and the names of loggers are replaced where they stand; the rest of
the text, comments and layout included, stays as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from .importer import sentence
from .rewrite_imports import dotted, from_imports, import_as, imports_of
from .table import MODULES, ROOTS, known_modules, target_of

__all__ = ["Problem", "Rewritten", "rewrite"]


@dataclass(frozen=True)
class Problem:
    """Something that was left as it is.

    Attributes:
        line: where, from 1.
        message: what it is, and what to do.
    """

    line: int
    message: str


@dataclass(frozen=True)
class Rewritten:
    """A rewritten text.

    Attributes:
        text: the text; the given one where nothing was to be done.
        changes: how many places changed.
        problems: what has no counterpart, in the order of lines.
    """

    text: str
    changes: int = 0
    problems: tuple[Problem, ...] = ()


def rewrite(text: str, name: str = "<text>") -> Rewritten:
    """Rewrite a Python source.

    Args:
        text: the source.
        name: its file, for messages.
    """
    if not any(root in text for root in ROOTS):
        return Rewritten(text)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        return Rewritten(text, 0, (Problem(error.lineno or 1, f"{name} is not Python that can be read: {error.msg}"),))
    return _Rewriting(text, tree).result()


class _Rewriting:
    """One text: finds the places, then replaces them from the last to the first."""

    def __init__(self, text: str, tree: ast.Module) -> None:
        self._bytes = text.encode()  # positions of the syntax tree count bytes
        self._tree = tree
        starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts = starts
        self._edits: list[tuple[int, int, str]] = []
        self._problems: list[Problem] = []
        self._bound = dict(_module_bindings(tree))
        self._left: set[str] = set()  # bound names of which a use stays as it is

    def result(self) -> Rewritten:
        """The rewritten text."""
        used = self._rewrite_uses()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ImportFrom) and not node.level and _is_ours(node.module or ""):
                self._rewrite_from(node)
            elif isinstance(node, ast.Import) and any(_is_ours(alias.name) for alias in node.names):
                self._rewrite_import(node, used)
        content = self._bytes
        for start, end, new in sorted(self._edits, reverse=True):
            content = content[:start] + new.encode() + content[end:]
        problems = tuple(sorted(self._problems, key=lambda problem: problem.line))
        return Rewritten(content.decode(), len(self._edits), problems)

    # Uses

    def _rewrite_uses(self) -> dict[str, list[str]]:
        """Replace dotted uses; what has to be imported for those of each bound name."""
        used: dict[str, list[str]] = {}
        for node in _outermost_chains(self._tree):
            parts = _chain(node)
            module = self._bound.get(parts[0].id) if parts else None
            if module is not None:
                self._rewrite_use(node, parts[0].id, module, used)
        for call in ast.walk(self._tree):
            if isinstance(call, ast.Call) and _is_get_logger(call):
                self._rewrite_logger(call.args[0])
        return used

    def _rewrite_use(self, node: ast.expr, name: str, module: str, used: dict[str, list[str]]) -> None:
        """Replace the longest part of a chain that the table knows."""
        links = list(_links(node))  # the name alone first, the whole chain last
        paths = [".".join([module, *_attributes(link)]) for link in links]
        for link, path in zip(reversed(links), reversed(paths), strict=True):
            if (target := target_of(path)) is not None:
                self._replace(link, dotted(target))
                used.setdefault(name, []).append(target.partition(":")[0])
                return
        longest = next((path for path in paths if path not in known_modules()), paths[-1])
        self._problems.append(Problem(node.lineno, sentence(longest)))
        self._left.add(name)

    def _rewrite_logger(self, argument: ast.expr) -> None:
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            return
        name = argument.value
        if name.partition(".")[0] == "detectron2":
            events = name == "detectron2.utils.events"
            moved = "drivetrain.events" if events else name.replace("detectron2", "drivetrain", 1)
            self._replace(argument, f'"{moved}"')

    # Imports

    def _rewrite_from(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            if alias.name == "*":
                self._problems.append(Problem(node.lineno, f"from {node.module} import *: name what is imported"))
            elif target_of(path) is None:
                self._problems.append(Problem(alias.lineno, sentence(path)))
        source = self._source(node)
        new = from_imports(node, source, self._indent(node))
        if new != source:
            self._replace(node, new)

    def _rewrite_import(self, node: ast.Import, used: dict[str, list[str]]) -> None:
        statements: list[str] = []
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if not _is_ours(alias.name):
                statements.append(import_as(alias.name, alias.asname))
            elif alias.asname and alias.name in MODULES:
                statements.append(import_as(MODULES[alias.name], alias.asname))
            elif alias.name not in known_modules():
                self._problems.append(Problem(node.lineno, sentence(alias.name)))
                statements.append(import_as(alias.name, alias.asname))
            else:
                statements += imports_of(used.pop(name, []) or [MODULES.get(alias.name, "drivetrain")])
                statements += [import_as(alias.name, alias.asname)] * (name in self._left)
        self._replace(node, self._indent(node).join(dict.fromkeys(statements)))

    # Text

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        start = self._starts[node.lineno - 1] + node.col_offset
        return start, self._starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)

    def _source(self, node: ast.expr | ast.stmt) -> str:
        start, end = self._span(node)
        return self._bytes[start:end].decode()

    def _replace(self, node: ast.expr | ast.stmt, new: str) -> None:
        start, end = self._span(node)
        if self._bytes[start:end].decode() != new:
            self._edits.append((start, end, new))

    def _indent(self, node: ast.stmt) -> str:
        """What goes between two statements in a statement's place: a new line as far in, or a semicolon."""
        line = self._starts[node.lineno - 1]
        before = self._bytes[line : line + node.col_offset].decode()
        newline = "\r\n" if self._bytes[: self._starts[1]].endswith(b"\r\n") else "\n"
        return newline + before if not before.strip() else "; "


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ROOTS


def _module_bindings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that stand for modules of detectron2 which are not one module here, and which modules."""
    for root in ROOTS:
        yield root, root
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname and _is_ours(alias.name) and alias.name not in MODULES:
                    yield alias.asname, alias.name


def _outermost_chains(tree: ast.Module) -> Iterator[ast.expr]:
    """Dotted expressions that are not the beginning of longer ones."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)) and id(node) not in inner:
            yield node


def _links(node: ast.expr) -> Iterator[ast.expr]:
    """A chain's beginnings, the shortest first."""
    if isinstance(node, ast.Attribute):
        yield from _links(node.value)
    yield node


def _chain(node: ast.expr) -> list[ast.Name]:
    """The name that a dotted expression begins with, if it is nothing but dotted."""
    first = next(_links(node))
    return [first] if isinstance(first, ast.Name) else []


def _attributes(node: ast.expr) -> list[str]:
    return [*_attributes(node.value), node.attr] if isinstance(node, ast.Attribute) else []


def _is_get_logger(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name == "getLogger" and bool(call.args)
