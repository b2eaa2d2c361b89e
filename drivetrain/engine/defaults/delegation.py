"""Attributes that live in the trainer that makes the step."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

__all__ = ["Delegated"]

T = TypeVar("T")


class Delegated(Generic[T]):
    """An attribute of a DefaultTrainer that belongs to its ``_trainer``, when another one makes the step.

    Args:
        name: the attribute's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, owner: Any, owner_type: type | None = None) -> T:
        if owner is None:
            return self  # type: ignore[return-value]  # the descriptor itself, as for any class attribute
        inner = owner._step_trainer
        if inner is not None:
            return cast(T, getattr(inner, self._name))
        try:
            return cast(T, owner.__dict__[self._name])
        except KeyError:
            raise AttributeError(f"{type(owner).__name__} has no {self._name} yet: set it or _trainer first") from None

    def __set__(self, owner: Any, value: T) -> None:
        inner = owner._step_trainer
        if inner is not None:
            setattr(inner, self._name, value)
        else:
            owner.__dict__[self._name] = value
