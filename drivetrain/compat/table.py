"""The table: every name that code written for detectron2 may import, and what it is here.

:data:`TABLE` has the names of each module, :data:`MODULES` what a module is as a whole (for ``import ... as x``), and
:data:`ABSENT` what is not there, with what to use instead. The importer, ``drivetrain migrate`` and the guide read
these and nothing else. Names in :data:`STAND_INS` are in the table and absent too: they can be imported, and say why
they are absent when they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from .entries import Names
from .table_absent import ABSENT as NOT_THERE
from .table_data import DATA, DATA_MODULES
from .table_engine import ENGINE, ENGINE_MODULES
from .table_fvcore import FVCORE, FVCORE_MODULES
from .table_modeling import MODELING, MODELING_MODULES
from .table_stand_ins import STAND_IN_NAMES, STAND_INS

__all__ = ["ABSENT", "MODULES", "ROOTS", "STAND_INS", "TABLE", "known_modules", "target_of"]

ROOTS = ("detectron2", "fvcore", "iopath", "yacs")
"""The packages whose imports are resolved."""


def _joined(*parts: Mapping[str, Names]) -> dict[str, Names]:
    """One table of several, which may have names of the same modules."""
    found: dict[str, Names] = {}
    for part in parts:
        for module, names in part.items():
            found[module] = {**found.get(module, {}), **names}
    return found


TABLE: MappingProxyType[str, Names] = MappingProxyType(_joined(ENGINE, DATA, MODELING, FVCORE, STAND_IN_NAMES))
"""Module -> its names -> what they are here."""

MODULES: Names = MappingProxyType({**ENGINE_MODULES, **DATA_MODULES, **MODELING_MODULES, **FVCORE_MODULES})
"""Module -> the module here that has all of its names."""

ABSENT: Names = MappingProxyType({**NOT_THERE, **STAND_INS})
"""Dotted path -> why it is not there. Of a module that is in the table: why its other names are not."""


@cache
def known_modules() -> frozenset[str]:
    """Every module that can be imported: those of the table, and the packages above them."""
    named = {*TABLE, *MODULES}
    return frozenset(".".join(parts[:end]) for parts in map(_split, named) for end in range(1, len(parts) + 1))


def target_of(path: str) -> str | None:
    """What a dotted path (``detectron2.engine.DefaultTrainer``) is here, as the table writes it; None if nothing."""
    module, _, name = path.rpartition(".")
    return TABLE.get(module, {}).get(name) or MODULES.get(path)


def _split(name: str) -> list[str]:
    return name.split(".")
