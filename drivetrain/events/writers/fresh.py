"""The scalars that a writer has not written yet, grouped by the iteration they belong to."""

from __future__ import annotations

import weakref

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
        self._cursor = 0
        self._storage: weakref.ref[EventStorage] | None = None

    def entries(self, storage: EventStorage) -> list[tuple[str, float, int]]:
        """Everything put since the last call, in order, as (name, value, iteration)."""
        if self._storage is None or self._storage() is not storage:
            self._storage, self._cursor = weakref.ref(storage), 0
        entries, self._cursor = storage.scalars_since(self._cursor)
        return entries

    def read(self, storage: EventStorage) -> list[tuple[int, dict[str, float]]]:
        """What is to be written now: (iteration, name -> value), iterations ascending.

        Of a smoothed scalar that is one value, its median, at the newest iteration it was put in. Of an
        unsmoothed one it is every value when it comes now and then (evaluation results appear where they
        belong, however rarely one writes), but only the newest when it was put in every single iteration (a
        learning rate).
        """
        values: dict[str, dict[int, float]] = {}
        for name, value, iteration in self.entries(storage):
            values.setdefault(name, {})[iteration] = value
        hints = storage.smoothing_hints()
        lines: dict[int, dict[str, float]] = {}
        for name, by_iteration in values.items():
            newest = max(by_iteration)
            if hints.get(name, True):
                count = storage.count_samples(name, self._window_size)
                by_iteration = {newest: storage.history(name).median(count)}
            elif len(by_iteration) == newest - min(by_iteration) + 1:
                by_iteration = {newest: by_iteration[newest]}
            for iteration, value in by_iteration.items():
                lines.setdefault(iteration, {})[name] = value
        return sorted(lines.items())
