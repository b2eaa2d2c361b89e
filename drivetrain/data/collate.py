"""How samples become a batch."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["trivial_batch_collator"]

T = TypeVar("T")


def trivial_batch_collator(batch: list[T]) -> list[T]:
    """The list of samples itself: images of a batch differ in size, so the model pads them, on its device."""
    return batch
