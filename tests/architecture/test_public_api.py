"""Every public name is exported, documented and typed, and every module has its test file."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "drivetrain"
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(p.relative_to(ROOT)) for p in FILES]
# Names that may be bound to something mutable at module level: the catalogs of datasets and of models.
REGISTRIES = {"DatasetCatalog", "MetadataCatalog", "MODELS"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def exported(module: ast.Module) -> list[str] | None:
    for node in module.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            return [str(name) for name in ast.literal_eval(node.value)]  # type: ignore[attr-defined]
    return None


def is_public(name: str) -> bool:
    return not name.startswith("_")


def is_override_of_property(node: ast.FunctionDef) -> bool:
    """Setters and overloads are documented by what they belong to."""
    names = {ast.unparse(d) for d in node.decorator_list}
    return any(n.endswith((".setter", ".deleter")) or n in ("overload", "typing.overload") for n in names)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_module_has_docstring_and_all(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), "the module has no docstring"
    assert exported(module) is not None, "the module defines no __all__"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_exported_names_exist(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    if name.endswith("__main__"):
        pytest.skip("runs when imported")
    module = importlib.import_module(name)
    for symbol in module.__all__:
        assert getattr(module, symbol, None) is not None, f"{name}.__all__ names {symbol}, which does not exist"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_public_definitions_are_documented_and_typed(path: Path) -> None:
    module = tree(path)
    names = set(exported(module) or [])
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and is_override_of_property(node):
            continue
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names:
            assert ast.get_docstring(node), f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef) and node.name in names:
            check_typed(node)
        if isinstance(node, ast.ClassDef) and node.name in names:
            for method in node.body:
                if (
                    isinstance(method, ast.FunctionDef)
                    and is_public(method.name)
                    and not is_override_of_property(method)
                ):
                    assert ast.get_docstring(method), f"{node.name}.{method.name} has no docstring"
                    check_typed(method)


def check_typed(node: ast.FunctionDef) -> None:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    missing = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
    assert not missing and node.returns is not None, f"{node.name} is not typed: {missing or 'its result'}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_files_are_short(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= 400, f"{lines} lines: find the parts it consists of"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines of code"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_mutable_state_in_modules(path: Path) -> None:
    """Module-level names bound to an empty container are hidden state in the making."""
    for node in tree(path).body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names = {t.id for t in targets if isinstance(t, ast.Name)} - REGISTRIES - {"__all__"}
        empty = (isinstance(value, (ast.List, ast.Set)) and not value.elts) or (
            isinstance(value, ast.Dict) and not value.keys
        )
        assert not (names and empty), f"{names} is mutable module-level state"
        if isinstance(node, ast.FunctionDef):
            assert not any(isinstance(n, ast.Global) for n in ast.walk(node)), f"{node.name} uses global"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_module_has_its_test_file(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    if relative.name in ("__init__.py", "__main__.py", "_version.py"):
        pytest.skip("nothing in it to test")
    expected = ROOT / "tests" / relative.parent / f"test_{relative.stem.lstrip('_')}.py"
    assert expected.is_file(), f"{expected.relative_to(ROOT)} is missing"


def test_all_of_the_errors_are_drawn() -> None:
    errors = importlib.import_module("drivetrain.errors")
    drawn = errors.__doc__ or ""
    for name in errors.__all__:
        if isinstance(getattr(errors, name), type):
            assert name in drawn, f"{name} is missing in the tree of errors.py"
