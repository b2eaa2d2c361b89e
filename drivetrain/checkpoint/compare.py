"""Comparing saved tensors with those that a model expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from drivetrain.errors import IncompatibleWeightsError

__all__ = ["StateDifference", "compare_state"]

_SHOWN = 6


@dataclass(frozen=True)
class StateDifference:
    """How saved tensors differ from the expected ones.

    Attributes:
        missing: names that the model has and the file has not.
        unexpected: names that the file has and the model has not.
        shapes: (name, shape in the file, shape in the model) where both have it, in different shapes.
        matching: how many tensors fit.
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    matching: int

    def __bool__(self) -> bool:
        """True where there is a difference."""
        return bool(self.missing or self.unexpected or self.shapes)

    def describe(self) -> str:
        """One line that lists the differences, the first few of each kind."""
        parts = [f"{self.matching} tensors fit"]
        if self.missing:
            parts.append(f"{len(self.missing)} missing from the file ({_listed(self.missing)})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected in the file ({_listed(self.unexpected)})")
        if self.shapes:
            shapes = [
                f"{name}: {list(saved)} in the file, {list(own)} in the model" for name, saved, own in self.shapes
            ]
            parts.append(f"{len(self.shapes)} of another shape ({_listed(shapes)})")
        return "; ".join(parts)

    def raise_if_any(self, source: str) -> None:
        """Raise IncompatibleWeightsError, naming ``source``, where there is a difference."""
        if self:
            raise IncompatibleWeightsError(
                f"the weights in {source} are not for this model: {self.describe()}; use the model that they were "
                "trained with (MODEL.NAME, MODEL.NUM_CLASSES) or other weights"
            )


def compare_state(expected: Mapping[str, Any], saved: Mapping[str, Any]) -> StateDifference:
    """Compare a model's state dict with saved tensors, by name and shape.

    A ``num_batches_tracked`` that only one of them has counts as fitting, as in PyTorch: files from before it existed
    lack it, and so do batch norms with fixed statistics. Parameters that get their shape at the first forward pass fit
    anything.
    """
    missing = [name for name in expected if name not in saved and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in saved if name not in expected and not name.endswith("num_batches_tracked")]
    both = [name for name in expected if name in saved]
    shapes = []
    for name in both:
        own, other = expected[name], saved[name]
        if not isinstance(own, torch.Tensor) or not isinstance(other, torch.Tensor):
            continue  # a module's extra state, which it judges itself
        if not torch.nn.parameter.is_lazy(own) and own.shape != other.shape:
            shapes.append((name, tuple(other.shape), tuple(own.shape)))
    return StateDifference(tuple(missing), tuple(unexpected), tuple(shapes), len(both) - len(shapes))


def _listed(items: tuple[str, ...] | list[str]) -> str:
    """The first items, and how many more there are."""
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
