"""A random permutation of range(n) that is computed, not stored: any element of it in microseconds, whatever n is.

The method is the generalised Feistel cipher with cycle walking of Black and Rogaway, "Ciphers with Arbitrary Finite
Domains" (CT-RSA 2002), with a SplitMix64 hash as its round function: numbers below ``n`` are written as pairs
``(left, right)`` in a rectangle of a x b >= n cells, the two halves are alternately shifted by a hash of the other,
and a result that falls outside range(n) is sent through once more. As a x b exceeds n by less than its square root's
ceiling or so, that is rare.

For small ``n`` the rectangle is too small to mix well (for 3 x 3 cells only even permutations could come out), so there
the permutation is the sorting order of n hashes, which is exactly uniform over the hashes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .randomness import derive, hash_array

__all__ = ["RandomPermutation"]

_SORTED_BELOW = 1024  # up to here sorting costs no more than the Feistel rounds
_ROUNDS = 8  # 4 make a pseudo-random permutation of a large domain (Luby and Rackoff 1988); more for small ones

IntArray = np.ndarray[Any, np.dtype[np.int64]]


class RandomPermutation:
    """A permutation of range(n), fixed by a key.

    Attributes:
        n: number of elements, 1 or more.
    """

    def __init__(self, n: int, *key: int) -> None:
        """The permutation of ``range(n)`` named by the integers ``key`` (for instance a seed and an epoch).

        Raises:
            ValueError: ``n`` is less than 1 or there is no key.
        """
        if n < 1 or not key:
            raise ValueError(f"a permutation needs 1 or more elements and a key, but n={n}, key={key} was given")
        self.n = n
        self._key = derive(*key)
        self._rows = math.isqrt(n - 1) + 1
        self._columns = -(-n // self._rows)

    def __len__(self) -> int:
        """The number of elements."""
        return self.n

    def __getitem__(self, index: int) -> int:
        """The element at one index in range(n)."""
        return int(self.take(np.array([index], dtype=np.int64))[0])

    def take(self, indices: IntArray) -> IntArray:
        """The elements at ``indices`` (int64, any shape (K,)), as int64 of the same shape.

        Raises:
            IndexError: an index is outside range(n).
        """
        if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= self.n):
            raise IndexError(f"indices into a permutation of {self.n} elements must be in [0, {self.n})")
        if self.n <= _SORTED_BELOW:
            order = np.argsort(hash_array(self._key, np.arange(self.n)), kind="stable")
            return order.astype(np.int64, copy=False)[indices]
        values = self._encrypt(indices.astype(np.uint64))
        outside = values >= self.n
        while outside.any():  # follow the cycle until it comes back into range(n)
            values[outside] = self._encrypt(values[outside])
            outside = values >= self.n
        return values.astype(np.int64)

    def _encrypt(self, values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """One pass through the Feistel network: a bijection of range(rows * columns)."""
        rows, columns = np.uint64(self._rows), np.uint64(self._columns)
        left, right = values // columns, values % columns
        for number in range(0, _ROUNDS, 2):
            left = (left + hash_array(self._key + number, right) % rows) % rows
            right = (right + hash_array(self._key + number + 1, left) % columns) % columns
        return np.asarray(left * columns + right)
