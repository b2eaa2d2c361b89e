"""Drivetrain: a training engine for visual recognition, with the API that detectron2's users know.

Public names are resolved on first use, so that ``import drivetrain`` itself loads nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._version import __version__ as __version__
    from .config import CfgNode as CfgNode
    from .data import DatasetCatalog as DatasetCatalog
    from .data import MetadataCatalog as MetadataCatalog
    from .data import register_coco_instances as register_coco_instances
    from .engine import DefaultPredictor as DefaultPredictor
    from .engine import DefaultTrainer as DefaultTrainer
    from .engine import HookBase as HookBase
    from .engine import SimpleTrainer as SimpleTrainer
    from .engine import get_cfg as get_cfg
    from .engine import launch as launch
    from .modeling import build_model as build_model

__all__ = [
    "CfgNode",
    "DatasetCatalog",
    "DefaultPredictor",
    "DefaultTrainer",
    "HookBase",
    "MetadataCatalog",
    "SimpleTrainer",
    "__version__",
    "build_model",
    "get_cfg",
    "launch",
    "register_coco_instances",
]


def attach(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package resolve its public names on first use (PEP 562). It stands here to cost no import of its own.

    Args:
        package: the package's ``__name__``.
        names: public name -> the submodule, relative to the package, that defines it.
            A submodule's own name maps to itself (``{"hooks": "hooks"}``).

    Returns:
        ``__getattr__`` and ``__dir__`` for the package. ``__getattr__`` raises AttributeError for any other name.
    """

    def resolve(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{names[name]}")
        return module if names[name] == name else getattr(module, name)

    return resolve, lambda: sorted(names)


__getattr__, __dir__ = attach(
    __name__,
    {
        "CfgNode": "config",
        "DatasetCatalog": "data",
        "DefaultPredictor": "engine",
        "DefaultTrainer": "engine",
        "HookBase": "engine",
        "MetadataCatalog": "data",
        "SimpleTrainer": "engine",
        "__version__": "_version",
        "build_model": "modeling",
        "get_cfg": "engine",
        "launch": "engine",
        "register_coco_instances": "data",
    },
)
