"""Names of what a lazy config may build: anything that Python gave it; of texts only what is known to be harmless."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from drivetrain.errors import ConfigError

from .table import target_of

__all__ = ["ALLOWED", "locate", "name_of", "target_from_text"]

_CLASSES = (
    "drivetrain.compat.anchors",
    "drivetrain.compat.backbones",
    "drivetrain.compat.heads",
    "drivetrain.compat.layers",
    "drivetrain.compat.matching",
    "drivetrain.compat.modeling",
    "drivetrain.compat.transforms_color",
    "drivetrain.compat.transforms_random",
    "drivetrain.data.mapper",
    "drivetrain.data.samplers",
    "drivetrain.data.transforms",
    "drivetrain.evaluation",
    "drivetrain.modeling.detectron2",
    "drivetrain.solver",
    "drivetrain.structures",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "torchvision.ops",
    "torchvision.transforms",
)
# Fewer than of classes: functions may read any file (timm's create_model unpickles one), write, or call what they get.
_FUNCTIONS = (
    "drivetrain.compat.backbones",
    "drivetrain.compat.lazy_data",
    "drivetrain.compat.model_zoo",
    "drivetrain.compat.modeling",
    "drivetrain.data.build",
    "drivetrain.data.records",
    "drivetrain.modeling.build",
    "drivetrain.modeling.detectron2",
    "drivetrain.solver",
    "torch.nn.functional",
    "torch.nn.init",
    "torchvision.models",
    "torchvision.ops",
)

ALLOWED = tuple(sorted({*_CLASSES, *_FUNCTIONS}))
"""Where a class or function has to be defined that a text names, if nothing else is allowed."""


def locate(name: str) -> Any:
    """What a dotted name means, ``package.module.Class`` or ``package.module.Class.method``.

    Raises:
        ConfigError: nothing.
    """
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:end])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
                continue  # this is no module, but what is above may have it
            raise
        for part in parts[end:]:
            found = getattr(found, part, None)
        if found is not None:
            return found
        break
    raise ConfigError(f"_target_ {name!r} cannot be found: give package.module.Name of something that is installed")


def target_from_text(text: str, allow: tuple[str, ...] = ()) -> Callable[..., Any]:
    """The class or function that a ``_target_`` in a file names; detectron2's names are this package's.

    Args:
        text: the dotted name.
        allow: modules or packages beside :data:`ALLOWED`.

    Raises:
        ConfigError: it is not one of those, is defined in another place than its name says, or cannot be found.
    """
    allowed = (*ALLOWED, *allow)
    name = (target_of(text) or text).replace(":", ".")
    refused = ConfigError(
        f"_target_ {text!r} is not among what a text may build ({', '.join(allowed)}), since it could run anything: "
        "write the config in Python with LazyCall, or give instantiate(cfg, allow=('your_package',))"
    )
    if not (_within(name, allowed) or target_of(text)) or any(part.startswith("_") for part in name.split(".")):
        raise refused
    found = locate(name)
    kind = _CLASSES if isinstance(found, type) else _FUNCTIONS
    # Where it is defined counts, for a module's own imports are attributes of it as well: torch.nn.functional.torch.
    defined, own = getattr(found, "__module__", None) or "", getattr(found, "__qualname__", ".")
    if not callable(found) or "." in own or not _within(defined, (*kind, *allow)):
        raise refused
    return found  # type: ignore[no-any-return]


def name_of(target: Any) -> str:
    """The dotted name of a class or function, which :func:`locate` finds again; of a text the text.

    Raises:
        ConfigError: it has none, as a lambda.
    """
    if isinstance(target, str):
        return target
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if not module or not name or "<" in name:
        raise ConfigError(f"{target!r} has no name by which it could be found again: define it in a module")
    return f"{module}.{name}"


def _within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == start or name.startswith(f"{start}.") for start in allowed)
