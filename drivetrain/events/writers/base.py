"""The interface of all writers, and the base of those that must never end a run."""

from __future__ import annotations

import logging

from drivetrain.events.storage import EventStorage, get_event_storage

__all__ = ["EventWriter", "FailSafeWriter"]

_logger = logging.getLogger("drivetrain.events")


class EventWriter:
    """Shows the events of the innermost open storage somewhere; subclasses say where."""

    def write(self) -> None:
        """Read what is new from :func:`~drivetrain.events.get_event_storage` and show it."""
        raise NotImplementedError(f"{type(self).__name__} does not define write()")

    def close(self) -> None:
        """Release what the writer holds. Calling it again does nothing."""


class FailSafeWriter(EventWriter):
    """A writer whose failures are counted and told once, but never reach the training.

    Subclasses define :meth:`write_events`.

    Attributes:
        failures: how many calls of :meth:`write` or :meth:`close` failed so far.
    """

    def __init__(self) -> None:
        self.failures = 0

    def write(self) -> None:
        """Write what is new; an exception on the way is counted in ``failures`` and logged the first time.

        Raises:
            AssertionError: no storage is open.
        """
        storage = get_event_storage()
        try:
            self.write_events(storage)
        except Exception as error:
            self.note_failure(error)

    def write_events(self, storage: EventStorage) -> None:
        """Write what is new in ``storage``; may raise anything."""
        raise NotImplementedError(f"{type(self).__name__} does not define write_events()")

    def note_failure(self, error: BaseException) -> None:
        """Count a failure, and log it if it is the first."""
        self.failures += 1
        if self.failures == 1:
            _logger.warning(
                "%s failed (%s: %s); training goes on, and further failures of this writer are only counted",
                type(self).__name__,
                type(error).__name__,
                error,
            )
