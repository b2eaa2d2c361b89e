"""Results as tables: rows for a report, aligned text for a log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ClassRow", "ResultTable", "results_table"]


@dataclass(frozen=True)
class ClassRow:
    """The figures of one class.

    Attributes:
        name: the class.
        figures: column -> value. Floats are in 0..100, NaN where there is nothing to measure; ints are counts.
    """

    name: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class ResultTable:
    """The figures of one task (``"bbox"``, ``"sem_seg"``, ...) on one dataset.

    Attributes:
        task: the task's name.
        dataset: the dataset's name.
        images: images evaluated.
        measure: what the figures are, for the title.
        metrics: the figures over all classes: ``AP``, ``AP50``, ``mIoU``, ...
        classes: one row per class, by class index, all with the same columns.
        overall: the row for all classes together, with these columns too.
    """

    task: str
    dataset: str
    images: int
    measure: str
    metrics: Mapping[str, float]
    classes: Sequence[ClassRow]
    overall: ClassRow

    def rows(self) -> list[dict[str, Any]]:
        """One dict per class with its ``name`` and figures, then one for all of them."""
        return [{"name": row.name, **row.figures} for row in (*self.classes, self.overall)]

    def __str__(self) -> str:
        """The table as aligned text: a line with the figures over all classes, then one line per class."""
        names = [name for name in self.metrics if "-" not in name]
        figures = [_align([names, [_figure(self.metrics[name]) for name in names]], left=0)]
        lines = [["class", *self.overall.figures], *(_cells(row) for row in (*self.classes, self.overall))]
        title = f"{self.task} on {_plain(self.dataset)}, {self.images} images, {self.measure}:"
        return "\n".join([title, *figures, "", _align(lines, left=1)])


def _cells(row: ClassRow) -> list[str]:
    return [_plain(row.name), *(str(v) if isinstance(v, int) else _figure(v) for v in row.figures.values())]


def _figure(value: Any) -> str:
    """Two decimals, a dash where there is no value, and what is no number as it is."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return _plain(str(value))
    return "-" if math.isnan(number) else f"{number:.2f}"


def _plain(text: str) -> str:
    """``text`` with control characters escaped: a class name must not be able to rewrite the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _align(lines: Sequence[Sequence[str]], *, left: int) -> str:
    """Cells in columns, the first ``left`` columns flush left, the others flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join("  " + line.rstrip() for line in text)


def results_table(results: Mapping[str, Any]) -> str:
    """Results of any evaluators as aligned text: a line per task, a column per figure.

    Figures of single classes (with a ``-`` in the name) are left out. Results by dataset, one level deeper, have lines
    ``dataset/task``; a result that is a plain number is a column ``value``.
    """
    tasks = _by_task(results)
    columns = list(dict.fromkeys(name for figures in tasks.values() for name in figures))
    body = [
        [_plain(task), *(_figure(figures.get(name, math.nan)) for name in columns)] for task, figures in tasks.items()
    ]
    return _align([["task", *columns], *body], left=1) if body else "  no results"


def _by_task(results: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """Task -> figures, the tasks of several datasets with the dataset's name in front."""
    tasks: dict[str, dict[str, Any]] = {}
    for name, value in results.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            tasks[key] = {"value": value}
        elif any(isinstance(inner, Mapping) for inner in value.values()):
            tasks.update(_by_task(value, f"{key}/"))
        else:
            tasks[key] = {str(figure): inner for figure, inner in value.items() if "-" not in str(figure)}
    return tasks
