"""The scalars that a writer has not written yet, grouped by the iteration they belong to."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from drivetrain.errors import UserInputError
from drivetrain.events.history import ScalarHistory
from drivetrain.events.storage import EventStorage

__all__ = ["FreshScalars", "is_evaluation"]


def is_evaluation(storage: EventStorage, name: str) -> bool:
    """Whether a scalar is an evaluation's result: put unsmoothed, with a ``/`` in its name (``bbox/AP``)."""
    return "/" in name and not storage.smoothing_hints().get(name, True)


class FreshScalars:
    """A writer's place in the stream of scalars; each scalar is handed out once.

    The place belongs to one storage: when another storage comes, reading starts at its beginning.

    Args:
        window_size: scalars with a smoothing hint are given as their median over this many iterations.

    Raises:
        UserInputError: the window has no iteration.
    """

    def __init__(self, window_size: int = 20) -> None:
        if window_size < 1:
            raise UserInputError(f"window_size is {window_size!r}: give 1 or more iterations to smooth over")
        self._window_size = window_size
        self._seen: dict[str, int] = {}
        self._storage: weakref.ref[EventStorage] | None = None

    def by_name(self, storage: EventStorage, names: Iterable[str] | None = None) -> dict[str, list[tuple[float, int]]]:
        """Everything put since the last call, or what of it has these names: name -> (value, iteration), in order.

        One that falls behind by more than a history keeps gets only the newest.
        """
        histories = storage.histories()
        return {name: histories[name].newest(count) for name, count in self._new(storage, names).items()}

    def _new(self, storage: EventStorage, names: Iterable[str] | None = None) -> dict[str, int]:
        """Name -> how many values were put since the last call."""
        if self._storage is None or self._storage() is not storage:
            self._storage, self._seen = weakref.ref(storage), {}
        new, self._seen = storage.new_since(self._seen, names)
        return new

    def read(self, storage: EventStorage) -> list[tuple[int, dict[str, float]]]:
        """What is to be written now: (iteration, name -> value), iterations ascending.

        Of a smoothed scalar that is one value, its median, at the iteration it was last put in. Of an unsmoothed
        one it is every value when it comes now and then (evaluation results appear where they belong, however
        rarely one writes), but only the newest when it was put in every single iteration (a learning rate).
        """
        hints = storage.smoothing_hints()
        lines: dict[int, dict[str, float]] = {}
        histories = storage.histories()
        for name, count in self._new(storage).items():
            history = histories[name]
            if hints.get(name, True):
                lines.setdefault(history.final_iteration(), {})[name] = history.smoothed(self._window_size)
            else:
                for value, iteration in _thinned(history, count):
                    lines.setdefault(iteration, {})[name] = value
        return sorted(lines.items())


def _thinned(history: ScalarHistory, count: int) -> list[tuple[float, int]]:
    """Of the newest ``count`` values the last one alone, if there is one in every iteration; else the last of each."""
    if history.is_dense(count):
        return history.newest(1)
    by_iteration = {iteration: value for value, iteration in history.newest(count)}
    newest = max(by_iteration)
    if len(by_iteration) == newest - min(by_iteration) + 1:
        return [(by_iteration[newest], newest)]
    return [(value, iteration) for iteration, value in by_iteration.items()]
