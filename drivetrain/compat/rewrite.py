"""Rewriting source text from detectron2's names to this package's, by the table of :mod:`drivetrain.compat.table`.

Import statements, dotted uses of what they bind, and the names of loggers are replaced where they stand; the rest of
the text, comments and layout included, stays as it is.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from .importer import resolve, sentence
from .rewrite_imports import dotted, from_imports, import_as, imports_of
from .rewrite_scopes import (
    bound_module,
    is_ours,
    module_bindings,
    names_of_their_own,
    whole_modules,
    within_functions,
)
from .table import MODULES, ROOTS, STAND_INS, TABLE, known_modules, target_of

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
        problems: what has no counterpart, or is named by a text, in the order of lines.
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
    except (SyntaxError, ValueError, RecursionError) as error:
        line, what = getattr(error, "lineno", None) or 1, getattr(error, "msg", error)
        return Rewritten(text, 0, (Problem(line, f"{name} is not Python that can be read: {what}"),))
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
        self._bound = dict(module_bindings(tree))
        self._whole = dict(whole_modules(tree))
        self._others = names_of_their_own(tree)
        self._in_functions = within_functions(tree)
        self._in_texts = {id(node): text for text in _texts_with_code(tree) for node in ast.walk(text)}
        self._used: dict[str, list[str]] = {}  # what has to be imported for the uses of each bound name
        self._left: set[str] = set()  # bound names of which a use stays as it is

    def result(self) -> Rewritten:
        """The rewritten text."""
        for chain in _outermost_chains(self._tree):
            self._rewrite_chain(chain)
        loggers = [call.args[0] for call in ast.walk(self._tree) if isinstance(call, ast.Call) and _is_get_logger(call)]
        for argument in loggers:
            self._rewrite_logger(argument)
        self._list_texts(passed_over={id(argument) for argument in loggers})
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ImportFrom) and not node.level and is_ours(node.module or ""):
                self._rewrite_from(node)
            elif isinstance(node, ast.Import) and any(is_ours(alias.name) for alias in node.names):
                self._rewrite_import(node)
        content = self._bytes
        for start, end, new in sorted(self._edits, reverse=True):
            content = content[:start] + new.encode() + content[end:]
        problems = tuple(sorted(self._problems, key=lambda problem: problem.line))
        return Rewritten(content.decode(), len(self._edits), problems)

    # Uses

    def _rewrite_chain(self, node: ast.expr) -> None:
        """Replace the longest part that the table knows of a dotted use of a module."""
        links = list(_links(node))  # the name alone first, the whole chain last
        first = links[0]
        if not isinstance(first, ast.Name) or id(first) in self._others:
            return
        if first.id in self._whole and len(links) > 1:
            self._check_name(node, f"{self._whole[first.id]}.{_attributes(links[1])[0]}")
        if first.id not in self._bound:
            return
        paths = [".".join([self._bound[first.id], *_attributes(link)]) for link in links]
        for link, path in zip(reversed(links), reversed(paths), strict=True):
            if (target := target_of(path)) is not None:
                if path in STAND_INS:
                    self._list(node, sentence(path))
                if self._is_written(link):
                    self._replace(link, dotted(target))
                    self._used.setdefault(first.id, []).append(target.partition(":")[0])
                    return
                self._list(node, f"{path} is {dotted(target)} here; replace it in this text")
                self._left.add(first.id)
                return
        unknown = next((path for path in paths if path not in known_modules()), None)
        whole = f"{paths[-1]} is not one module here: name what is used of it"
        self._list(node, sentence(unknown) if unknown else whole)
        self._left.add(first.id)

    def _check_name(self, node: ast.expr, path: str) -> None:
        """List a name that the module which takes a module's place does not have."""
        module, _, name = path.rpartition(".")
        target = target_of(module)
        if name not in TABLE.get(module, ()) and target is not None and not hasattr(resolve(target), name):
            self._list(node, sentence(path))

    def _is_written(self, link: ast.expr) -> bool:
        """Whether a dotted expression certainly stands where the syntax tree has it.

        Before Python 3.12, one between the braces of an f-string is placed where its characters come first.
        """
        text = self._in_texts.get(id(link))
        written = ast.unparse(link)
        if text is not None and self._source(text).count(written) > 1:
            return False
        return "".join(self._source(link).split()) == written

    def _list_texts(self, passed_over: set[int]) -> None:
        """List the texts that name something of detectron2, such as the arguments of ``importlib.import_module``."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed_over:
                path = node.value
                if (target := target_of(path)) is not None:
                    self._list(node, f"the text {path!r} stays; what it names is {dotted(target)} here")
                elif "." in path and path in known_modules():
                    self._list(node, f"the text {path!r} stays; it names a module of detectron2")

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
        modules: dict[str, list[str]] = {}
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            if alias.name == "*":
                self._list(node, f"from {node.module} import *: name what is imported")
            elif bound_module(node, alias) is not None:
                name = alias.asname or alias.name
                kept = f"from {node.module} {import_as(alias.name, alias.asname)}"
                modules[name] = self._imports(node, name, path, kept)
            elif target_of(path) is None or path in STAND_INS:
                self._list(alias, sentence(path))
        source = self._source(node)
        new = from_imports(node, source, self._indent(node), modules)
        if new != source:
            self._replace(node, new)

    def _rewrite_import(self, node: ast.Import) -> None:
        statements: list[str] = []
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if not is_ours(alias.name):
                statements.append(import_as(alias.name, alias.asname))
            elif alias.asname and alias.name in MODULES:
                statements.append(import_as(MODULES[alias.name], alias.asname))
            elif alias.name not in known_modules():
                self._list(node, sentence(alias.name))
                statements.append(import_as(alias.name, alias.asname))
            else:
                statements += self._imports(node, name, alias.name, import_as(alias.name, alias.asname))
        self._replace(node, self._indent(node).join(dict.fromkeys(statements)))

    def _imports(self, node: ast.stmt, name: str, module: str, kept: str) -> list[str]:
        """The statements that take the place of one which binds a module to ``name``.

        The first at a file's top is enough for all of it; within functions each needs its own. The statement itself,
        ``kept``, is among them where a use stays as it is.
        """
        used = self._used.get(name, []) if id(node) in self._in_functions else self._used.pop(name, [])
        if name in self._left:
            return [*imports_of(used), kept]
        return imports_of(used or [MODULES.get(module, "drivetrain")])

    # Text

    def _list(self, node: ast.expr | ast.stmt | ast.alias, message: str) -> None:
        self._problems.append(Problem(node.lineno, message))

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


def _outermost_chains(tree: ast.Module) -> Iterator[ast.expr]:
    """Dotted expressions that are not the beginning of longer ones."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)) and id(node) not in inner:
            yield node


def _texts_with_code(tree: ast.Module) -> list[ast.JoinedStr]:
    """The f-strings, inner ones first, where the places of their expressions are not to be relied on."""
    if sys.version_info >= (3, 12):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)][::-1]


def _links(node: ast.expr) -> Iterator[ast.expr]:
    """A chain's beginnings, the shortest first."""
    if isinstance(node, ast.Attribute):
        yield from _links(node.value)
    yield node


def _attributes(node: ast.expr) -> list[str]:
    return [*_attributes(node.value), node.attr] if isinstance(node, ast.Attribute) else []


def _is_get_logger(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name == "getLogger" and bool(call.args)
