"""A trainer whose step another one may make, and what is looked up where."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from drivetrain.engine.train_loop import SimpleTrainer

__all__ = ["Delegated", "OwnStep"]

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
        try:
            value: T = owner.__dict__[self._name] if inner is None else getattr(inner, self._name)
        except KeyError:
            raise AttributeError(f"{type(owner).__name__} has no {self._name} yet: set it or _trainer first") from None
        return value

    def __set__(self, owner: Any, value: T) -> None:
        inner = owner._step_trainer
        if inner is not None:
            setattr(inner, self._name, value)
        else:
            owner.__dict__[self._name] = value


class OwnStep(SimpleTrainer):
    """The step of a trainer that makes it itself, apart from what its subclass overrides around it.

    An override of ``run_step`` or ``state_dict`` that was written for a trainer with another one inside calls that of
    ``self._trainer``; were this the trainer itself, it would call the override again, without end.

    It has the trainer's own attributes: what is set on one is set on the other.

    Args:
        owner: the trainer.
    """

    __slots__ = ("_owner",)  # beside the attributes, which are the owner's

    def __init__(self, owner: SimpleTrainer) -> None:
        self._owner = owner
        self.__dict__ = owner.__dict__

    def run_step(self) -> None:
        """The step of SimpleTrainer, of which the owner may override parts (``fetch``, ``forward``, ...)."""
        SimpleTrainer.run_step(self._owner)

    def state_dict(self) -> dict[str, Any]:
        """The state of the step; that of the hooks is the owner's."""
        state = super().state_dict()
        state.pop("hooks", None)
        return state
