"""Evaluating a model on one dataset after another."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, cast

import torch

from drivetrain.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format, results_table
from drivetrain.runtime import comm

__all__ = ["evaluate_all"]

logger = logging.getLogger(__name__)


def evaluate_all(
    model: torch.nn.Module, parts: Iterable[tuple[str, Iterable[Any], DatasetEvaluator]]
) -> OrderedDict[str, Any]:
    """Evaluate on each dataset and log its results.

    Args:
        model: the model.
        parts: a name, a loader and an evaluator for each dataset.

    Returns:
        The results by name and task; with one dataset by task alone. Empty on ranks other than 0.
    """
    results: OrderedDict[str, Any] = OrderedDict()
    for name, loader, evaluator in parts:
        results[name] = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            logger.info("Evaluation results on %s:\n%s", name, results_table(results[name]))
            print_csv_format(results[name])
    if len(results) == 1:
        return cast("OrderedDict[str, Any]", next(iter(results.values())))
    return results
