"""Imports point down only: who may import whom, and that there are no cycles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "drivetrain"

# From top to bottom; what stands in one row may not import one another.
LAYERS = [
    {"cli"},
    {"compat"},
    {"engine.defaults", "testing"},
    {"engine"},
    {"checkpoint", "data", "modeling", "evaluation", "visualization"},
    {"events", "solver", "config", "structures"},
    {"runtime"},
    {"errors", "_version"},
]
# An evaluator is given a dataset's name, as users know it, and looks up its annotations and label maps.
SIDEWAYS = {("evaluation", "data.catalog"), ("evaluation", "data.formats.label_maps")}
ENGINE_MAY_IMPORT = {"events", "solver", "checkpoint", "runtime", "errors", "engine", ""}


def modules() -> dict[str, Path]:
    """Dotted name within the package -> file; ``""`` is the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(path: Path, *, deferred: bool) -> Iterator[str]:
    """Names within the package that a file imports; with ``deferred``, also those inside functions."""
    parts = path.relative_to(PACKAGE).parts[:-1]

    def resolve(node: ast.ImportFrom) -> str | None:
        if node.level:
            return ".".join([*parts[: len(parts) - node.level + 1], *(node.module or "").split(".")]).strip(".")
        if node.module == "drivetrain":
            return ""
        return node.module.removeprefix("drivetrain.") if (node.module or "").startswith("drivetrain.") else None

    def walk(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if is_type_checking(node):
                continue
            if isinstance(node, ast.ImportFrom) and (base := resolve(node)) is not None:
                for alias in node.names:
                    name = f"{base}.{alias.name}".strip(".")
                    yield name if name in MODULES else base
            elif isinstance(node, ast.Import):
                yield from (a.name.removeprefix("drivetrain.") for a in node.names if a.name.startswith("drivetrain."))
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if deferred:
                    yield from walk(node.body)
            else:
                for field in ("body", "orelse", "finalbody"):
                    yield from walk([n for n in getattr(node, field, []) if isinstance(n, ast.stmt)])
                for handler in getattr(node, "handlers", []):
                    yield from walk(handler.body)

    yield from walk(ast.parse(path.read_text()).body)


def layer(name: str) -> tuple[int, str]:
    """Index of the layer a module lies in (0 is the top) and the name of its part there."""
    for index, row in enumerate(LAYERS):
        for part in row:
            if name == part or name.startswith(part + "."):
                return index, part
    if name == "__main__":
        return 0, "cli"
    raise AssertionError(f"drivetrain.{name} lies in no layer: put it into one of the design's packages")


@pytest.mark.parametrize("name", [m for m in MODULES if m])
def test_imports_point_down(name: str) -> None:
    own_index, own_part = layer(name)
    for target in imports(MODULES[name], deferred=True):
        if target == "":
            continue
        index, part = layer(target)
        if part == own_part or (part == "engine" and own_part == "engine.defaults"):
            continue
        allowed = index > own_index or any(
            own_part == source and (target == to or target.startswith(to + ".")) for source, to in SIDEWAYS
        )
        assert allowed, f"drivetrain.{name} imports drivetrain.{target}, which is not below it"


@pytest.mark.parametrize("name", [m for m in MODULES if m.startswith("engine") and not m.startswith("engine.defaults")])
def test_engine_stays_small(name: str) -> None:
    if name == "engine":
        pytest.skip("the package resolves the names of its defaults lazily")
    for target in imports(MODULES[name], deferred=True):
        assert target.split(".")[0] in ENGINE_MAY_IMPORT, f"drivetrain.{name} imports drivetrain.{target}"


def test_no_import_cycles() -> None:
    graph = {name: {t for t in imports(path, deferred=False) if t in MODULES} for name, path in MODULES.items()}
    state: dict[str, int] = {}

    def visit(name: str, trail: list[str]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, f"import cycle: {' -> '.join([*trail[trail.index(name) :], name])}"
        state[name] = 1
        for target in sorted(graph[name] - {name}):
            visit(target, [*trail, name])
        state[name] = 2

    for name in graph:
        visit(name, [])


def test_the_rule_sees_an_upward_import(tmp_path: Path) -> None:
    """The walk itself finds imports at every depth, relative ones too."""
    path = PACKAGE / "events" / "storage.py"
    found = set(imports(path, deferred=False))
    assert "events.history" in found
    source = ast.parse("def f():\n    from drivetrain.engine import hooks\n")
    assert isinstance(source.body[0], ast.FunctionDef)


def test_no_utils() -> None:
    assert not [name for name in MODULES if "utils" in name.split(".")]
