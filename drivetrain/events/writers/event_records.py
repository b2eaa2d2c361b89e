"""The records of TensorBoard's event files. Importing this module imports parts of tensorboard."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

__all__ = ["event_record", "scalars_summary"]


def scalars_summary(values: Mapping[str, float]) -> Any:
    """A summary of many scalars: one record for all of them, instead of one for each."""
    summary = Summary()
    for name, value in values.items():
        summary.value.add(tag=name, simple_value=value)
    return summary


def event_record(**fields: Any) -> bytes:
    """An event of now, framed as in TFRecord files: length and content, each with its masked CRC-32C."""
    data = Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join((length, _checksum(length), data, _checksum(data)))


def _checksum(data: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(data))
