"""CRC-32C (Castagnoli), the checksum of event files: RFC 3720, appendix B.4."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["crc32c"]

_POLYNOMIAL = 0x82F63B78  # reflected
_PIECE = 1024  # bytes taken at once
_ONES = 0xFFFFFFFF


def _table() -> npt.NDArray[np.uint32]:
    """What each bit of a piece adds to its checksum if it is set. (A CRC is linear: XOR adds up.)"""
    added = [_POLYNOMIAL]  # the last bit first
    while len(added) < 8 * _PIECE:
        added.append(added[-1] >> 1 ^ (_POLYNOMIAL if added[-1] & 1 else 0))
    return np.array(added[::-1], np.uint32)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The checksum of ``data``, in [0, 2**32)."""
    state = _ONES
    for start in range(0, len(data), _PIECE):
        piece = bytearray(data[start : start + _PIECE])
        for place, byte in zip(range(len(piece)), state.to_bytes(4, "little"), strict=False):
            piece[place] ^= byte  # the state so far works like bytes that are added to the next four
        bits = np.unpackbits(np.frombuffer(piece, np.uint8), bitorder="little")
        state = state >> 8 * min(len(piece), 4) ^ int(np.bitwise_xor.reduce(_TABLE[-len(bits) :] * bits))
    return state ^ _ONES
