"""Parts of models by name, in the form of fvcore's registries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from drivetrain.errors import UserInputError, did_you_mean

__all__ = ["Registry"]


class Registry:
    """Objects by their names: ``@R.register()`` over a class or function, ``R.get(name)``."""

    def __init__(self, name: str, objects: Iterable[Any] = ()) -> None:
        """Name the registry, for messages, and register some classes and functions."""
        self._name = name
        self._objects: dict[str, Any] = {obj.__name__: obj for obj in objects}

    def register(self, obj: Any = None) -> Any:
        """Register ``obj`` under its ``__name__`` (returns None), or, without it, decorate a class or function.

        Raises:
            UserInputError: the name is taken by something else.
        """
        if obj is None:
            return self._decorator()
        self._add(obj.__name__, obj)
        return None

    def get(self, name: str) -> Any:
        """The object of a name; KeyError, naming close ones, when there is none."""
        if name not in self._objects:
            raise KeyError(
                f"{self._name} has no {name!r}{did_you_mean(name, self._objects)} "
                f"(registered: {', '.join(self._objects) or 'none'})"
            )
        return self._objects[name]

    def remove(self, name: str) -> None:
        """Forget a name; KeyError when there is none."""
        self.get(name)
        del self._objects[name]

    def _decorator(self) -> Callable[[Any], Any]:
        def decorate(obj: Any) -> Any:
            self._add(obj.__name__, obj)
            return obj

        return decorate

    def _add(self, name: str, obj: Any) -> None:
        self._check_free(self._objects.get(name, obj), obj, name)
        self._objects[name] = obj

    def _check_free(self, known: Any, obj: Any, name: str) -> None:
        """Raise UserInputError unless both are the same, or made by the same lines of a script that ran twice."""
        if known is not obj and getattr(known, "__qualname__", "") != getattr(obj, "__qualname__", None):
            raise UserInputError(f"{name!r} is already registered in {self._name}: choose another name")

    def __contains__(self, name: object) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._objects.items())

    def __repr__(self) -> str:
        return f"Registry({self._name}: {', '.join(self._objects) or 'nothing'})"
