"""Rows of result tables from the arrays of the COCO evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .tables import ClassRow

__all__ = ["class_rows", "count_instances", "mean_precision", "overall_row"]


def mean_precision(precision: np.ndarray[Any, Any]) -> float:
    """The mean over the entries that exist, in 0..100; NaN when there are none.

    Args:
        precision: part of the COCO evaluation's array of precisions in 0..1, with -1 where there is no ground truth.
    """
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else math.nan


def class_rows(evaluation: Any, class_names: Sequence[str], instances: Sequence[int]) -> list[ClassRow]:
    """One row per class: ``AP``, ``AP50``, ``AP75`` and ``instances``.

    Args:
        evaluation: what ``evaluate_task`` returned; None without predictions, which makes every precision NaN.
        class_names: in the order of the evaluation's class axis.
        instances: ground-truth instances of each class, crowds not counted.
    """
    if evaluation is None:
        return [_row(name, [math.nan] * 3, count) for name, count in zip(class_names, instances, strict=True)]
    # precision: overlap threshold x recall x class x area range (0: all) x most detections (-1: most)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    thresholds = np.asarray(evaluation.params.iouThrs)
    chosen = (np.ones_like(thresholds, dtype=bool), np.isclose(thresholds, 0.5), np.isclose(thresholds, 0.75))
    return [
        _row(name, [mean_precision(precision[at, :, k]) for at in chosen], count)
        for k, (name, count) in enumerate(zip(class_names, instances, strict=True))
    ]


def overall_row(metrics: Mapping[str, float], instances: int) -> ClassRow:
    """The row for all classes together."""
    return _row("all", [metrics.get(name, math.nan) for name in ("AP", "AP50", "AP75")], instances)


def _row(name: str, precisions: Sequence[float], instances: int) -> ClassRow:
    return ClassRow(name, {**dict(zip(("AP", "AP50", "AP75"), precisions, strict=True)), "instances": instances})


def count_instances(
    annotations: Sequence[Mapping[str, Any]], category_ids: Sequence[int], image_ids: set[int] | None
) -> list[int]:
    """For each category the number of annotations that are not crowds, in ``image_ids`` (None: in all images)."""
    counts = dict.fromkeys(category_ids, 0)
    for annotation in annotations:
        if not annotation.get("iscrowd") and (image_ids is None or annotation["image_id"] in image_ids):
            counts[annotation["category_id"]] += 1
    return [counts[category] for category in category_ids]
