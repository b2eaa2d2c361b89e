"""The writer interface, and that failures stay inside."""

from __future__ import annotations

import logging

import pytest

from drivetrain.events import EventStorage
from drivetrain.events.writers.base import EventWriter, FailSafeWriter


class _Broken(FailSafeWriter):
    def write_events(self, storage: EventStorage) -> None:
        raise RuntimeError("backend down")


def test_an_event_writer_has_to_define_write() -> None:
    with pytest.raises(NotImplementedError, match="EventWriter"):
        EventWriter().write()
    EventWriter().close()
    EventWriter().close()


def test_failures_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    writer = _Broken()
    with EventStorage(), caplog.at_level(logging.WARNING):
        for _ in range(5):
            writer.write()
    assert writer.failures == 5
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "backend down" in caplog.text
    assert "_Broken" in caplog.text


def test_outside_a_storage_a_write_is_an_error() -> None:
    with pytest.raises(AssertionError):
        _Broken().write()


def test_a_user_interrupt_is_not_swallowed() -> None:
    class Interrupted(FailSafeWriter):
        def write_events(self, storage: EventStorage) -> None:
            raise KeyboardInterrupt

    with EventStorage(), pytest.raises(KeyboardInterrupt):
        Interrupted().write()
