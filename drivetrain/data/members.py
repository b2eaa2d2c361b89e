"""Which samples belong to a group, in little memory: the k-th member of it, for any k, at once."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Members"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]

_BLOCK = 512  # samples whose members are counted together
_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1).sum(axis=1, dtype=np.uint8)  # of each byte


class Members:
    """The members of one group among ``n`` samples, in order.

    Their indices are listed where the group is small; otherwise each sample has a bit, and the members before each
    block of 512 samples are counted. Either way it takes about an eighth of a byte per sample at most.
    """

    def __init__(self, is_member: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """The group of the samples for which ``is_member``, bool (n,), is True."""
        bits = np.packbits(is_member)
        bits = np.pad(bits, (0, -len(bits) % (_BLOCK // 8)))
        self._ends = np.cumsum(_ONES[bits].reshape(-1, _BLOCK // 8).sum(axis=1, dtype=np.int64))
        self._is_listed = len(self) * 32 < len(is_member)
        small = np.int32 if len(is_member) < 2**31 else np.int64
        self._kept: np.ndarray[Any, Any] = np.flatnonzero(is_member).astype(small) if self._is_listed else bits

    def __len__(self) -> int:
        """The number of members."""
        return int(self._ends[-1])

    def take(self, places: IntArray) -> IntArray:
        """The samples that stand at ``places`` (int64, each less than the length) among the members."""
        if self._is_listed:
            return self._kept[places].astype(np.int64)
        blocks = np.searchsorted(self._ends, places, side="right")
        return np.array([self._in_block(int(b), int(p)) for b, p in zip(blocks, places, strict=True)], dtype=np.int64)

    def _in_block(self, block: int, place: int) -> int:
        size = _BLOCK // 8
        inside = np.flatnonzero(np.unpackbits(self._kept[block * size : (block + 1) * size]))
        before = int(self._ends[block - 1]) if block else 0
        return block * _BLOCK + int(inside[place - before])
