"""Records of event files, against the library's own writer and known checksums."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from drivetrain.events.writers.event_records import event_record, scalars_summary


def content(record: bytes) -> bytes:
    (length,) = struct.unpack("<Q", record[:8])
    assert len(record) == 8 + 4 + length + 4
    return record[12:-4]


@given(st.dictionaries(st.text(max_size=10), st.floats(width=32, allow_nan=False), max_size=5), st.integers(0, 2**40))
def test_a_record_is_framed_as_the_library_frames_it(values: dict[str, float], step: int) -> None:
    record = event_record(step=step, summary=scalars_summary(values))
    buffer = io.BytesIO()
    RecordWriter(buffer).write(content(record))
    assert record == buffer.getvalue()
    event = Event.FromString(content(record))
    assert event.step == step and event.wall_time > 0
    assert {value.tag: value.simple_value for value in event.summary.value} == values


def test_each_scalar_is_what_the_library_makes_of_it() -> None:
    (one, two) = scalars_summary({"loss": 0.25, "lr": 1e-4}).value
    assert one == summary.scalar("loss", 0.25).value[0]
    assert two == summary.scalar("lr", 1e-4).value[0]


def test_a_field_that_no_event_has() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        event_record(nonsense=1)
