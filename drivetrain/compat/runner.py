"""Running a script as ``__main__`` with the imports of detectron2 resolved, in new processes too.

A process that is started by the method ``spawn`` imports the main script anew, by a path or a name that its parent
sends. The name sent here is that of :mod:`drivetrain.compat.spawned`, which installs the imports first and then does
what would have been done.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import os
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from drivetrain.errors import UserInputError

from .importer import install

__all__ = ["MAIN_VARIABLE", "Program", "find_program", "load_main", "run_main"]

MAIN_VARIABLE = "DRIVETRAIN_COMPAT_MAIN"
"""Environment variable that tells new processes what to import: ``path:FILE`` or ``module:NAME``."""

_SPAWNED = "drivetrain.compat.spawned"


class _MainSpec(ModuleSpec):
    """The spec of a main script: its name is what a new process imports, its parent that of the script."""

    package = ""

    @property
    def parent(self) -> str:
        return self.package


@dataclass(frozen=True)
class Program:
    """A script or module that was found.

    Attributes:
        target: what it was asked for by: the file's path, or the module's dotted name.
        code: the compiled source.
        file: where it lies.
        package: the package that its relative imports start from; ``""`` for a script.
        is_module: whether it is run as ``python -m`` does.
    """

    target: str
    code: CodeType
    file: str
    package: str = ""
    is_module: bool = False

    @property
    def described(self) -> str:
        """What :func:`load_main` finds it by, from any folder."""
        return f"module:{self.target}" if self.is_module else f"path:{Path(self.target).resolve()}"


def find_program(target: str, *, is_module: bool = False) -> Program:
    """Find and compile a script, or a module with its package's ``__main__``; installs the imports for it.

    Raises:
        UserInputError: there is none.
    """
    install()
    return _find_module(target) if is_module else _find_script(target)


def run_main(program: Program, arguments: list[str]) -> None:
    """Run a program as ``__main__``, for as long as this process lives.

    Args:
        program: the program.
        arguments: its command line, without its own name.
    """
    if not program.is_module and not _is_safe_path():  # -m has put the present folder first, as it does for a module
        sys.path[0] = str(Path(program.target).resolve().parent)
    sys.argv[:] = [program.file if program.is_module else program.target, *arguments]
    os.environ[MAIN_VARIABLE] = program.described
    main = ModuleType("__main__")
    main.__dict__.update(_attributes(program, "__main__"))
    sys.modules["__main__"] = main
    exec(program.code, main.__dict__)  # noqa: S102 - the user's own script, to be run


def load_main(described: str, names: dict[str, Any]) -> None:
    """Run a program under the name ``__mp_main__``, as processes do that are to know its functions.

    Args:
        described: the value of :data:`MAIN_VARIABLE`.
        names: gets the program's names.
    """
    kind, _, target = described.partition(":")
    program = find_program(target, is_module=kind == "module")
    names.update(_attributes(program, "__mp_main__"))
    exec(program.code, names)  # noqa: S102 - as above


def _is_safe_path() -> bool:
    """Whether Python was asked not to put a folder first (``-P``)."""
    return bool(getattr(sys.flags, "safe_path", False))


def _attributes(program: Program, name: str) -> dict[str, Any]:
    """What a module knows of itself."""
    spec = _MainSpec(_SPAWNED, None)
    spec.package = program.package
    return {
        "__name__": name,
        "__file__": program.file,
        "__package__": program.package or None,
        "__spec__": spec,
        "__builtins__": builtins,
    }


def _find_script(path: str) -> Program:
    try:
        with io.open_code(str(Path(path).resolve())) as file:
            source = file.read()
    except OSError as error:
        raise UserInputError(f"the script {path!r} cannot be read: {error.strerror or error}") from error
    return Program(path, compile(source, path, "exec", dont_inherit=True), path)  # without this file's __future__


def _find_module(name: str) -> Program:
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        raise UserInputError(f"the module {name!r} cannot be found: {error}") from error
    loader: Any = spec.loader if spec is not None else None
    if spec is None or not hasattr(loader, "get_code"):
        raise UserInputError(f"the module {name!r} cannot be found; for a file give its path, without -m")
    return Program(name, loader.get_code(spec.name), str(spec.origin), spec.parent or "", is_module=True)
