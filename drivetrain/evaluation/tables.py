"""Results as tables: rows for a report, aligned text for a log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["ClassRow", "ResultTable", "class_rows", "count_instances", "mean_precision", "results_table"]


@dataclass(frozen=True)
class ClassRow:
    """The figures of one class. Precisions are in 0..100, NaN where there is no ground truth or no prediction at all.

    Attributes:
        name: the class.
        ap: mean average precision over the overlaps 0.50 to 0.95.
        ap50: average precision at overlap 0.50.
        ap75: average precision at overlap 0.75.
        instances: ground-truth instances, crowds not counted.
    """

    name: str
    ap: float
    ap50: float
    ap75: float
    instances: int


@dataclass(frozen=True)
class ResultTable:
    """The figures of one task (``"bbox"``, ``"segm"``, ``"keypoints"``) on one dataset.

    Attributes:
        task: the task's name.
        dataset: the dataset's name.
        images: images evaluated.
        metrics: the figures over all classes: ``AP``, ``AP50``, ``AP75``, ``APs``, ...
        classes: one row per class, by class index.
    """

    task: str
    dataset: str
    images: int
    metrics: Mapping[str, float]
    classes: Sequence[ClassRow]

    @property
    def overall(self) -> ClassRow:
        """All classes together, under the name ``all``."""
        ap, ap50, ap75 = (self.metrics.get(name, math.nan) for name in ("AP", "AP50", "AP75"))
        return ClassRow("all", ap, ap50, ap75, sum(row.instances for row in self.classes))

    def rows(self) -> list[dict[str, Any]]:
        """One dict per class with the fields of :class:`ClassRow`, then one for ``all``."""
        return [asdict(row) for row in (*self.classes, self.overall)]

    def __str__(self) -> str:
        """The table as aligned text: a line with the figures over all classes, then one line per class."""
        names = [name for name in self.metrics if not name.startswith("AP-")]
        figures = [_align([names, [_figure(self.metrics[name]) for name in names]], left=0)]
        header = ["class", "AP", "AP50", "AP75", "instances"]
        lines = [header, *(_cells(row) for row in (*self.classes, self.overall))]
        title = f"{self.task} on {_plain(self.dataset)}, {self.images} images, average precision in percent:"
        return "\n".join([title, *figures, "", _align(lines, left=1)])


def _cells(row: ClassRow) -> list[str]:
    return [_plain(row.name), _figure(row.ap), _figure(row.ap50), _figure(row.ap75), str(row.instances)]


def _figure(value: float) -> str:
    """Two decimals, or a dash where there is no value."""
    return "-" if math.isnan(value) else f"{value:.2f}"


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


def _by_task(results: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, float]]:
    """Task -> figures, the tasks of several datasets with the dataset's name in front."""
    tasks: dict[str, dict[str, float]] = {}
    for name, value in results.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            tasks[key] = {"value": float(value)}
        elif any(isinstance(inner, Mapping) for inner in value.values()):
            tasks.update(_by_task(value, f"{key}/"))
        else:
            tasks[key] = {figure: float(v) for figure, v in value.items() if "-" not in figure}
    return tasks


def mean_precision(precision: np.ndarray[Any, Any]) -> float:
    """The mean over the entries that exist, in 0..100; NaN when there are none.

    Args:
        precision: part of the COCO evaluation's array of precisions in 0..1, with -1 where there is no ground truth.
    """
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else math.nan


def class_rows(evaluation: Any, class_names: Sequence[str], instances: Sequence[int]) -> list[ClassRow]:
    """One row per class.

    Args:
        evaluation: what ``evaluate_task`` returned; None without predictions, which makes every precision NaN.
        class_names: in the order of the evaluation's class axis.
        instances: ground-truth instances of each class.
    """
    if evaluation is None:
        nan = math.nan
        return [ClassRow(n, nan, nan, nan, k) for n, k in zip(class_names, instances, strict=True)]
    # precision: overlap threshold x recall x class x area range (0: all) x most detections (-1: most)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    thresholds = np.asarray(evaluation.params.iouThrs)
    at50, at75 = np.isclose(thresholds, 0.5), np.isclose(thresholds, 0.75)
    return [
        ClassRow(
            name,
            mean_precision(precision[:, :, k]),
            mean_precision(precision[at50, :, k]),
            mean_precision(precision[at75, :, k]),
            count,
        )
        for k, (name, count) in enumerate(zip(class_names, instances, strict=True))
    ]


def count_instances(
    annotations: Sequence[Mapping[str, Any]], category_ids: Sequence[int], image_ids: set[int] | None
) -> list[int]:
    """For each category the number of annotations that are not crowds, in ``image_ids`` (None: in all images)."""
    counts = dict.fromkeys(category_ids, 0)
    for annotation in annotations:
        if not annotation.get("iscrowd") and (image_ids is None or annotation["image_id"] in image_ids):
            counts[annotation["category_id"]] += 1
    return [counts[category] for category in category_ids]
