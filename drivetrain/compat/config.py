"""detectron2's config: its keys with its defaults, and the decorator that builds objects from one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from drivetrain.config import CfgNode
from drivetrain.errors import ConfigError

from .schema import CompatRoot

__all__ = ["CfgNode", "configurable", "get_cfg", "is_config"]

Function = TypeVar("Function", bound=Callable[..., Any])


def get_cfg() -> CfgNode:
    """A new config with every key of detectron2 at its default."""
    return CfgNode.from_schema(CompatRoot)


def is_config(value: Any) -> bool:
    """Whether a value is a config of a training rather than some other argument."""
    return isinstance(value, Mapping) and "MODEL" in value


@overload
def configurable(init_func: Function) -> Function: ...
@overload
def configurable(*, from_config: Callable[..., Mapping[str, Any]]) -> Callable[[Function], Function]: ...
def configurable(init_func: Any = None, *, from_config: Callable[..., Mapping[str, Any]] | None = None) -> Any:
    """A decorator by which an object or function also takes a config.

    Of an ``__init__``: the class has a classmethod ``from_config(cfg, ...)`` that returns the arguments, and
    ``Class(cfg, ...)`` calls it. Of a function: ``@configurable(from_config=f)``, where ``f(cfg, ...)`` returns them.
    Arguments given beside the config replace those that ``from_config`` does not take.

    Raises:
        ConfigError: it decorates something else, or there is no ``from_config``.
    """
    if init_func is None and from_config is not None:
        return functools.partial(_decorate_function, from_config=from_config)
    if not inspect.isfunction(init_func) or init_func.__name__ != "__init__" or from_config is not None:
        raise ConfigError("@configurable decorates an __init__; a function takes @configurable(from_config=...)")

    @functools.wraps(init_func)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        if not _has_config(args, kwargs):
            init_func(self, *args, **kwargs)
            return
        maker = getattr(type(self), "from_config", None)
        if not inspect.ismethod(maker):
            raise ConfigError(f"{type(self).__name__} is @configurable and needs a classmethod from_config(cfg, ...)")
        init_func(self, **_arguments(maker, args, kwargs))

    return wrapped


def _decorate_function(function: Callable[..., Any], from_config: Callable[..., Mapping[str, Any]]) -> Any:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if _has_config(args, kwargs):
            return function(**_arguments(from_config, args, kwargs))
        return function(*args, **kwargs)

    wrapped.from_config = from_config  # type: ignore[attr-defined]
    return wrapped


def _has_config(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return is_config(args[0] if args else kwargs.get("cfg"))


def _arguments(
    maker: Callable[..., Mapping[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """What ``from_config`` makes of a call, with what it does not take itself on top."""
    parameters = inspect.signature(maker).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(maker(*args, **kwargs))
    taken = {p.name for p in parameters if p.kind is not p.VAR_POSITIONAL}
    extra = {name: value for name, value in kwargs.items() if name not in taken}
    return {**maker(*args, **{name: value for name, value in kwargs.items() if name in taken}), **extra}
