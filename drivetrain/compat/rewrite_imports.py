"""Import statements as text: those that take the place of one of detectron2's."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping, Sequence

from .table import target_of

__all__ = ["dotted", "from_imports", "import_as", "imports_of"]

_WIDTH = 100  # from which on the names of an import stand below one another


def dotted(target: str) -> str:
    """A target of the table as an expression."""
    return target.replace(":", ".")


def import_as(module: str, name: str | None) -> str:
    """``import module`` or ``import module as name``."""
    return f"import {module} as {name}" if name else f"import {module}"


def imports_of(modules: Sequence[str]) -> list[str]:
    """A statement for each of the modules, sorted and without repetition."""
    return [import_as(module, None) for module in sorted(set(modules))]


def from_imports(node: ast.ImportFrom, source: str, between: str, modules: Mapping[str, Sequence[str]]) -> str:
    """What takes the place of a ``from ... import ...``.

    Names without a counterpart stay in a statement of their own. Comments among the names stay with their names.

    Args:
        node: the statement.
        source: its text.
        between: what goes between two statements.
        modules: those names it binds that are modules without one counterpart, and the statements in their place.
    """
    module = str(node.module)
    groups: dict[str, list[tuple[str, ast.alias]]] = {}
    for alias in node.names:
        if (alias.asname or alias.name) not in modules:
            where, what = _place(f"{module}.{alias.name}", module, alias.name)
            groups.setdefault(where, []).append((what, alias))
    if len(groups) == 1 and not modules and module in source:
        (only, names), *_ = groups.items()
        if all(what == alias.name for what, alias in names):
            return source.replace(module, only, 1)
    comments = _comments(node, source)
    imports = dict.fromkeys(statement for statements in modules.values() for statement in statements)
    return between.join([*imports, *(_statement(where, names, comments, between) for where, names in groups.items())])


def _place(path: str, module: str, name: str) -> tuple[str, str]:
    """The module to import from, and the name to import."""
    target = target_of(path)
    if target is None:
        return module, name
    where, _, what = target.partition(":")
    if what:
        return where, what
    package, _, last = where.rpartition(".")
    return package, last


def _statement(where: str, names: Sequence[tuple[str, ast.alias]], comments: dict[int, str], between: str) -> str:
    shown = [(_with_alias(what, alias), comments.get(id(alias), "")) for what, alias in names]
    line = f"from {where} import {', '.join(text for text, _ in shown)}"
    if between == "; " or (len(line) <= _WIDTH and not any(comment for _, comment in shown)):
        return line
    indented = [f"{between}    {text},{'  ' + comment if comment else ''}" for text, comment in shown]
    return f"from {where} import ({''.join(indented)}{between})"


def _with_alias(what: str, alias: ast.alias) -> str:
    bound = alias.asname or alias.name
    return what if what == bound else f"{what} as {bound}"


def _comments(node: ast.ImportFrom, source: str) -> dict[int, str]:
    """The comments of a statement, by the id of the last name on or before their line."""
    found: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = node.lineno + token.start[0] - 1
            before = [alias for alias in node.names if alias.lineno <= line] or node.names[:1]
            key = id(before[-1])
            found[key] = f"{found[key]}  {token.string}" if key in found else token.string
    return found
