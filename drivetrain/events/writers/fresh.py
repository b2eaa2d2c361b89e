"""The scalars that a writer has not written yet, grouped by the iteration they belong to."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

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
    """

    def __init__(self, window_size: int = 20) -> None:
        self._window_size = window_size
        self._seen: dict[str, int] = {}
        self._storage: weakref.ref[EventStorage] | None = None

    def by_name(self, storage: EventStorage, names: Iterable[str] | None = None) -> dict[str, list[tuple[float, int]]]:
        """Everything put since the last call, or what of it has these names: name -> (value, iteration), in order."""
        if self._storage is None or self._storage() is not storage:
            self._storage, self._seen = weakref.ref(storage), {}
        values, self._seen = storage.scalars_since(self._seen, names)
        return values

    def read(self, storage: EventStorage) -> list[tuple[int, dict[str, float]]]:
        """What is to be written now: (iteration, name -> value), iterations ascending.

        Of a smoothed scalar that is one value, its median, at the iteration it was last put in. Of an unsmoothed
        one it is every value when it comes now and then (evaluation results appear where they belong, however
        rarely one writes), but only the newest when it was put in every single iteration (a learning rate).
        """
        hints = storage.smoothing_hints()
        histories = storage.histories()
        lines: dict[int, dict[str, float]] = {}
        for name, values in self.by_name(storage).items():
            if hints.get(name, True):
                values = [(histories[name].smoothed(self._window_size), values[-1][1])]
            elif len(values) > 1:
                values = _thinned(values)
            for value, iteration in values:
                lines.setdefault(iteration, {})[name] = value
        return sorted(lines.items())


def _thinned(values: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The newest value alone, if there is one in every iteration; else all, the last one of each iteration."""
    by_iteration = {iteration: value for value, iteration in values}
    newest = max(by_iteration)
    if len(by_iteration) == newest - min(by_iteration) + 1:
        return [(by_iteration[newest], newest)]
    return [(value, iteration) for iteration, value in by_iteration.items()]
