"""The records of TensorBoard's event files.

A record is an ``Event``, a protocol buffer message, in a frame: length, content, and a checksum of each. Only the few
fields that are needed are written here: importing the library's own classes takes a second, and its checksum, a loop
in Python, longer than everything else that a step pays for its curves. (Formats: tensorboard/compat/proto/event.proto
and summary.proto; the frame is that of TFRecord files.)
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from functools import lru_cache

from .crc32c import crc32c

__all__ = ["event_record", "first_record", "scalars_summary", "start_record"]

# Each field begins with its number and the kind of its value.
_WALL_TIME, _STEP, _FILE_VERSION, _SUMMARY, _SESSION_LOG = b"\x09", b"\x10", b"\x1a", b"\x2a", b"\x3a"  # of Event
_VALUE = b"\x0a"  # of Summary
_TAG, _SIMPLE_VALUE = b"\x0a", b"\x15"  # of Summary.Value
_SESSION_STARTS = b"\x08\x01"  # a SessionLog with the status START


def scalars_summary(values: Mapping[str, float]) -> bytes:
    """A ``Summary`` of many scalars: one record for all of them, instead of one for each."""
    return b"".join([_value_head(name) + _float(value) for name, value in values.items()])


def event_record(step: int, summary: bytes) -> bytes:
    """The record of a ``Summary`` of now.

    Args:
        step: its iteration, from 0.
        summary: the message's bytes.
    """
    return _record(_STEP + _varint(step) + _field(_SUMMARY, summary))


def first_record() -> bytes:
    """The record that an event file begins with."""
    return _record(_field(_FILE_VERSION, b"brain.Event:2"))


def start_record(step: int) -> bytes:
    """The record that hides what earlier files have from this iteration on."""
    return _record(_STEP + _varint(step) + _field(_SESSION_LOG, _SESSION_STARTS))


def _record(fields: bytes) -> bytes:
    data = _WALL_TIME + struct.pack("<d", time.time()) + fields
    return b"".join((_length(len(data)), data, _checksum(data)))


@lru_cache(maxsize=256)
def _length(size: int) -> bytes:
    """A content's length with its checksum; most records of a training have the same few."""
    length = struct.pack("<Q", size)
    return length + _checksum(length)


def _checksum(data: bytes) -> bytes:
    """The masked one of TFRecord files."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@lru_cache(maxsize=1024)
def _value_head(tag: str) -> bytes:
    """A scalar up to its number, which has four bytes."""
    head = _field(_TAG, tag.encode(errors="replace")) + _SIMPLE_VALUE
    return _VALUE + _varint(len(head) + 4) + head


def _float(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:  # more than 32 bits can hold
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def _field(key: bytes, content: bytes) -> bytes:
    return key + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits in each byte, the lowest first; a set eighth bit says that more follow."""
    number &= (1 << 64) - 1  # a negative one has ten bytes
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
