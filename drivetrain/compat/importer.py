"""Makes ``import detectron2...`` resolve to this package, by the table of :mod:`drivetrain.compat.table`.

The modules that it makes hold nothing of their own: a name is looked up in the table when it is first asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from drivetrain.errors import did_you_mean

from .logs import answer_to_both_names, part_names
from .table import ABSENT, MODULES, ROOTS, TABLE, known_modules

__all__ = ["FORCE_VARIABLE", "Finder", "install", "installed", "resolve", "sentence", "uninstall"]

FORCE_VARIABLE = "DRIVETRAIN_COMPAT_FORCE"
"""Environment variable: ``1`` puts this package in front of a detectron2 that is installed."""


def install(force: bool | None = None) -> None:
    """From now on ``import detectron2``, ``fvcore``, ``iopath`` and ``yacs`` mean this package, in this process.

    Installed copies of fvcore, iopath and yacs stay in use: they work with this package. Doing it again changes
    nothing.

    Args:
        force: put this package in front of an installed detectron2 (and fvcore...) too; by default, whether the
            environment variable ``DRIVETRAIN_COMPAT_FORCE`` is ``1``.

    Raises:
        ImportError: a detectron2 is installed and ``force`` is not given.
    """
    if installed():
        return
    forced = os.environ.get(FORCE_VARIABLE) == "1" if force is None else force
    roots = ROOTS if forced else tuple(root for root in ROOTS if not _is_there(root))
    if "detectron2" not in roots:
        raise ImportError(
            f"detectron2 itself is there ({_where('detectron2')}) and would be hidden: uninstall it, or set "
            f"{FORCE_VARIABLE}=1 to use drivetrain in its place"
        )
    for name in [name for name in sys.modules if name.partition(".")[0] in roots]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder(roots))
    answer_to_both_names()


def uninstall() -> None:
    """Take back what :func:`install` did; modules that are in use stay."""
    for finder in [finder for finder in sys.meta_path if isinstance(finder, Finder)]:
        sys.meta_path.remove(finder)
    for name in [name for name, module in sys.modules.items() if isinstance(module, _Counterpart)]:
        del sys.modules[name]
    part_names()


def installed() -> bool:
    """Whether :func:`install` was done."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)


def resolve(target: str) -> Any:
    """What a target of the table means: ``"package.module:name"``, or ``"package.module"``."""
    module, _, name = target.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


def sentence(path: str) -> str:
    """Why a dotted path of detectron2 is not there, and what to use instead."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        if (reason := ABSENT.get(".".join(parts[:end]))) is not None:
            return f"{path} has no counterpart in drivetrain: {reason}"
    module, _, name = path.rpartition(".")
    names = [*TABLE.get(module, ()), *(m.rpartition(".")[2] for m in known_modules() if m.rpartition(".")[0] == module)]
    hint = did_you_mean(name, names) or "; docs/how-to/from-detectron2.md lists what is there"
    return f"{path} has no counterpart in drivetrain{hint}"


class Finder(MetaPathFinder, Loader):
    """Finds the modules of the table.

    Args:
        roots: the packages that it stands for, such as ``("detectron2",)``.
    """

    def __init__(self, roots: Sequence[str] = ROOTS) -> None:
        self.roots = tuple(roots)

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The module ``fullname``, if it belongs to one of the roots.

        Raises:
            ModuleNotFoundError: it does, but has no counterpart.
        """
        if fullname.partition(".")[0] not in self.roots:
            return None
        if fullname not in known_modules() and not any(path.startswith(f"{fullname}.") for path in ABSENT):
            # It has no ``name``: by that Python would know that ``from x import y`` looked for this module, and would
            # put a shorter sentence in the place of this one.
            raise ModuleNotFoundError(sentence(fullname))
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that looks its names up."""
        return _Counterpart(spec.name, f"What drivetrain has of {spec.name}.")

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do: names are looked up when they are asked for."""


class _Counterpart(ModuleType):
    """A module of detectron2, whose names are those of the table."""

    def __getattr__(self, name: str) -> Any:
        own = self.__name__
        if name == "__all__":
            return sorted(TABLE.get(own, ()))
        if name.startswith("__") and name not in TABLE.get(own, ()):
            raise AttributeError(f"module {own!r} has no attribute {name!r}")
        path = f"{own}.{name}"
        if (target := TABLE.get(own, {}).get(name)) is not None:
            value = resolve(target)
        elif path in known_modules():
            value = importlib.import_module(path)
        elif path not in ABSENT and own in MODULES and hasattr(whole := resolve(MODULES[own]), name):
            value = getattr(whole, name)
        else:
            # What ``from x import y`` then looks for is a module of that name, and find_spec says the same.
            raise AttributeError(sentence(path))
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # The import of a module sets it on its package, where a function may have the same name (engine.launch).
        if isinstance(value, _Counterpart) and name in TABLE.get(self.__name__, ()):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        below = [m.rpartition(".")[2] for m in known_modules() if m.rpartition(".")[0] == self.__name__]
        return sorted({*self.__dict__, *TABLE.get(self.__name__, ()), *below})


def _is_there(root: str) -> bool:
    """Whether a package of this name can be imported without this module's help.

    A folder of that name without an ``__init__.py``, such as a clone of detectron2's repository, is none.
    """
    if root in sys.modules:
        return True
    spec = importlib.util.find_spec(root)
    return spec is not None and spec.origin is not None


def _where(root: str) -> str:
    spec = getattr(sys.modules.get(root), "__spec__", None) or importlib.util.find_spec(root)
    return str(getattr(spec, "origin", None) or "in memory")
