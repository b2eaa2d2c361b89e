"""Which keypoints change places when an image is mirrored, told from their names."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["flip_pairs"]

_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))


def flip_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of keypoints that differ in one "left" and "right" alone, as (left, right), in the order of the left.

    ``["nose", "left_eye", "right_eye"]`` gives ``[("left_eye", "right_eye")]``. A name whose counterpart is not in the
    list is in no pair.

    Args:
        names: the keypoints of a category.
    """
    known = set(names)
    pairs = []
    for name in names:
        others = [name.replace(left, right) for left, right in _SIDES if left in name]
        pairs += [(name, other) for other in others if other in known][:1]
    return pairs
