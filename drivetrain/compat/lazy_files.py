"""Running configs in Python, with relative imports between their files."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from drivetrain.errors import ConfigError, did_you_mean

from .lazy_nodes import as_node

__all__ = ["run_config"]


def run_config(path: Path) -> dict[str, Any]:
    """Run a config and return what it defines. ``from .other import model`` in it takes from a config beside it.

    Each import runs its file anew, so that what one config changes does not change another.

    Args:
        path: the ``.py`` file.

    Raises:
        ConfigError: it or a file that it imports is missing, is no Python, or files import one another in a circle.
    """
    return _run(path, ())


def _run(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    resolved = path.resolve()
    if resolved in above:
        circle = " -> ".join(file.name for file in (*above[above.index(resolved) :], resolved))
        raise ConfigError(f"the config {path} imports itself ({circle})")
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except FileNotFoundError:
        near = did_you_mean(path.name, (file.name for file in path.parent.glob("*.py")))
        raise ConfigError(f"the config {path} does not exist{near}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"the config {path} cannot be read: {error}") from error

    def import_(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        return _imported(path, name, fromlist or (), level, (*above, resolved))

    content: dict[str, Any] = {
        "__builtins__": {**vars(builtins), "__import__": import_},
        "__file__": str(path),
        "__name__": f"lazy_config.{path.stem}",
    }
    exec(code, content)  # noqa: S102 - a config in Python is a program, and asked for as such
    return {name: value for name, value in content.items() if name != "__builtins__"}


def _imported(path: Path, name: str, names: Sequence[str], level: int, above: tuple[Path, ...]) -> ModuleType:
    """What ``from <dots><name> import <names>`` takes from: a config file, or a folder of them."""
    folder = path.parent
    for _ in range(level - 1):
        folder = folder.parent
    target = folder.joinpath(*name.split(".")) if name else folder
    module = ModuleType(f"lazy_config.{name or folder.name}")
    file = target.with_name(f"{target.name}.py")
    if name and not file.is_file() and (target / "__init__.py").is_file():
        file = target / "__init__.py"
    if name and (file.is_file() or not target.is_dir()):
        content = _run(file, above)
    else:
        content = {}
    for key, value in content.items():
        setattr(module, key, as_node(value))
    for wanted in names:
        if wanted not in content and wanted != "*" and target.is_dir():
            inner = ModuleType(f"{module.__name__}.{wanted}")
            for key, value in _run(target / f"{wanted}.py", above).items():
                setattr(inner, key, as_node(value))
            setattr(module, wanted, inner)
    return module
