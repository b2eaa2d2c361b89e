"""Records of event files, against the library's own classes and writer."""

from __future__ import annotations

import io
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from drivetrain.events.writers.event_records import event_record, first_record, scalars_summary, start_record


def event_in(record: bytes) -> Event:
    """The event of a record, whose frame is the library's, checksums included."""
    (length,) = struct.unpack("<Q", record[:8])
    assert len(record) == 8 + 4 + length + 4
    content = record[12:-4]
    buffer = io.BytesIO()
    RecordWriter(buffer).write(content)
    assert record == buffer.getvalue()
    event = Event.FromString(content)
    assert event.wall_time > 1.7e9
    return event


@given(st.dictionaries(st.text(max_size=200), st.floats(width=32, allow_nan=False), max_size=5), st.integers(0, 2**62))
def test_scalars_are_read_back(values: dict[str, float], step: int) -> None:
    event = event_in(event_record(step, scalars_summary(values)))
    assert event.step == step
    assert {value.tag: value.simple_value for value in event.summary.value} == values


def test_a_scalar_is_what_the_library_makes_of_it() -> None:
    assert scalars_summary({"loss": 0.25}) == summary.scalar("loss", 0.25).SerializeToString()


@pytest.mark.parametrize(("value", "read"), [(1e300, math.inf), (-1e300, -math.inf), (math.inf, math.inf)])
def test_what_32_bits_cannot_hold_is_infinite(value: float, read: float) -> None:
    [written] = event_in(event_record(0, scalars_summary({"loss": value}))).summary.value
    assert written.simple_value == read


def test_a_name_that_is_no_unicode_does_not_take_the_others_along() -> None:
    event = event_in(event_record(0, scalars_summary({"a\udcff": 1.0, "b": 2.0})))
    assert [(value.tag, value.simple_value) for value in event.summary.value] == [("a?", 1.0), ("b", 2.0)]


def test_the_first_record_and_the_one_that_hides_points() -> None:
    assert event_in(first_record()).file_version == "brain.Event:2"
    hiding = event_in(start_record(300))
    assert (hiding.step, hiding.session_log.status) == (300, SessionLog.START)
