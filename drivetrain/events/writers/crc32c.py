"""CRC-32C (Castagnoli), the checksum of event files: RFC 3720, appendix B.4."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["crc32c"]

_POLYNOMIAL = 0x82F63B78  # reflected
_PIECE = 1024  # bytes taken at once
_ONES = 0xFFFFFFFF


def _tables() -> npt.NDArray[np.uint32]:
    """(1024, 256): what each byte at each place of a piece adds to its checksum. (A CRC is linear: XOR adds up.)"""
    rows = np.empty((_PIECE, 256), np.uint32)
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = (row >> 1) ^ np.where(row & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    rows[0] = row
    for n in range(1, _PIECE):  # bytes that follow
        rows[n] = (rows[n - 1] >> 8) ^ row[rows[n - 1] & 0xFF]
    return np.ascontiguousarray(rows[::-1])


_TABLES = _tables()
_POSITIONS = np.arange(_PIECE)


def crc32c(data: bytes) -> int:
    """The checksum of ``data``, in [0, 2**32)."""
    state = _ONES
    for start in range(0, len(data), _PIECE):
        piece = np.frombuffer(data, np.uint8, min(_PIECE, len(data) - start), start)
        # The state so far works like bytes that are added to the next four.
        carried = np.frombuffer(state.to_bytes(4, "little"), np.uint8)[: len(piece)]
        state >>= 8 * len(carried)
        state ^= _sum(piece) ^ _sum(carried, followed_by=len(piece) - len(carried))
    return state ^ _ONES


def _sum(piece: npt.NDArray[np.uint8], followed_by: int = 0) -> int:
    """What these bytes add when so many more follow in their piece."""
    rows = _POSITIONS[_PIECE - followed_by - len(piece) : _PIECE - followed_by]
    return int(np.bitwise_xor.reduce(_TABLES[rows, piece]))
