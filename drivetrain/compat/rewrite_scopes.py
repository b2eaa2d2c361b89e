"""What the names of a Python source stand for: modules of detectron2, or something else of the same name."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .table import MODULES, ROOTS, known_modules, target_of

__all__ = ["bound_module", "is_ours", "module_bindings", "names_of_their_own", "whole_modules", "within_functions"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES = (*_FUNCTIONS, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def is_ours(module: str) -> bool:
    """Whether a dotted name is of detectron2 or one of the packages that come with it."""
    return module.partition(".")[0] in ROOTS


def bound_module(node: ast.ImportFrom, alias: ast.alias) -> str | None:
    """The module that ``from package import module`` binds, where that is not one module here."""
    path = f"{node.module}.{alias.name}"
    return path if target_of(path) is None and path in known_modules() else None


def module_bindings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that stand for modules of detectron2 which are not one module here, and which modules."""
    for root in ROOTS:
        yield root, root
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname and is_ours(alias.name) and alias.name not in MODULES:
                    yield alias.asname, alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level and is_ours(node.module or ""):
            for alias in node.names:
                if (module := bound_module(node, alias)) is not None:
                    yield alias.asname or alias.name, module


def whole_modules(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that stand for modules of detectron2 which are one module here too, and which modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.asname, a.name) for a in node.names if a.asname and is_ours(a.name) and a.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and not node.level and is_ours(node.module or ""):
            for alias in node.names:
                if ":" not in (target_of(f"{node.module}.{alias.name}") or ":"):
                    yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def names_of_their_own(tree: ast.Module) -> frozenset[int]:
    """The ids of those ``ast.Name`` nodes that are arguments and variables of a function or comprehension."""
    found: set[int] = set()
    for scope in ast.walk(tree):
        if isinstance(scope, _SCOPES):
            own = _own_names(scope)
            found.update(id(node) for node in ast.walk(scope) if isinstance(node, ast.Name) and node.id in own)
    return frozenset(found)


def within_functions(tree: ast.Module) -> frozenset[int]:
    """The ids of all nodes that are in a function."""
    return frozenset(id(node) for scope in ast.walk(tree) if isinstance(scope, _FUNCTIONS) for node in ast.walk(scope))


def _own_names(scope: ast.AST) -> set[str]:
    """What a scope binds itself, but for what it imports."""
    own: set[str] = set()
    imported: set[str] = set()
    todo = list(ast.iter_child_nodes(scope))
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imported.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            own.add(node.name)
        if not isinstance(node, (*_SCOPES, ast.ClassDef)):
            todo += ast.iter_child_nodes(node)
    return own - imported
