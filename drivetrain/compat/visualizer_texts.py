"""What is written beside the instances of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["text_labels"]


def text_labels(
    classes: Sequence[int] | None,
    scores: Any,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[Any] | None = None,
) -> list[str] | None:
    """A text for each of N instances, as far as known: ``cat 97%``; None when neither class nor score is.

    Args:
        classes: N indices.
        scores: N numbers of 0 to 1, a list, array or tensor.
        class_names: the name of each class; one without a name is ``class 3``.
        is_crowd: for each instance, whether its annotation stands for many, which is said.
    """
    if classes is None and scores is None:
        return None
    names = class_names or ()
    count = len(scores) if classes is None else len(classes)
    words = [""] * count if classes is None else [_name(int(index), names) for index in classes]
    shares = [""] * count if scores is None else [f"{float(score):.0%}" for score in scores]
    crowds = ["(crowd)" if crowd else "" for crowd in (is_crowd if is_crowd is not None else [False] * count)]
    return [" ".join(filter(None, parts)) for parts in zip(words, shares, crowds, strict=True)]


def _name(index: int, names: Sequence[str]) -> str:
    return names[index] if 0 <= index < len(names) else f"class {index}"
