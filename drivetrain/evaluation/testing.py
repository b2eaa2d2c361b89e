"""Results as one flat mapping, as lines to copy, and against the values that were expected."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from drivetrain.errors import ConfigError, EvaluationError

__all__ = ["flatten_results_dict", "print_csv_format", "verify_results"]

_logger = logging.getLogger(__name__)


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Nested results as one level, the keys joined by ``/``: ``{"bbox": {"AP": 1.0}}`` gives ``{"bbox/AP": 1.0}``."""
    flat: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{name}": inner for name, inner in flatten_results_dict(value).items()})
        else:
            flat[str(key)] = value
    return flat


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log the main figures of each task on lines that paste into a spreadsheet.

    Each line starts with ``copypaste:``: the task, the names of its figures, their values. Figures of single classes
    (with a ``-`` in the name) are left out. Results of several datasets, one level deeper, are told dataset by dataset.
    """
    for task, figures in results.items():
        if not isinstance(figures, Mapping):
            _logger.info(f"copypaste: {task}={figures}")
        elif any(isinstance(value, Mapping) for value in figures.values()):
            _logger.info(f"copypaste: Dataset: {task}")
            print_csv_format(figures)
        else:
            shown = {name: value for name, value in figures.items() if "-" not in str(name)}
            _logger.info(f"copypaste: Task: {task}")
            _logger.info(f"copypaste: {','.join(str(name) for name in shown)}")
            _logger.info(f"copypaste: {','.join(_text(value) for value in shown.values())}")


def _text(value: Any) -> str:
    """Four decimals; what is no number as it is."""
    try:
        return f"{float(value):.4f}"
    except (TypeError, ValueError):
        return str(value)


def verify_results(cfg: Any, results: Mapping[str, Any]) -> bool:
    """Compare results with ``cfg.TEST.EXPECTED_RESULTS``, a list of ``[task, figure, value, tolerance]``.

    Returns:
        True; also when nothing is expected.

    Raises:
        EvaluationError: a figure is missing, is not a finite number, or differs by more than its tolerance; every such
            figure is listed.
        ConfigError: an entry of the list is not of that form.
    """
    expected = list(cfg.TEST.EXPECTED_RESULTS)
    problems = [problem for entry in expected if (problem := _difference(entry, results)) is not None]
    if problems:
        raise EvaluationError(
            f"{len(problems)} of {len(expected)} results are not as TEST.EXPECTED_RESULTS has them: "
            + "; ".join(problems)
        )
    if expected:
        _logger.info(f"All {len(expected)} results are as TEST.EXPECTED_RESULTS has them")
    return True


def _difference(entry: Any, results: Mapping[str, Any]) -> str | None:
    """What is wrong with one expected figure; None when it is met."""
    try:
        task, figure, value, tolerance = entry
        value, tolerance = float(value), float(tolerance)
    except (TypeError, ValueError):
        raise ConfigError(
            f"an entry of TEST.EXPECTED_RESULTS is [task, figure, value, tolerance], not {entry!r}"
        ) from None
    actual = results.get(task, {}).get(figure) if isinstance(results.get(task, {}), Mapping) else None
    if actual is None:
        return f"{task}/{figure} was not measured (there are: {', '.join(flatten_results_dict(results)) or 'none'})"
    if not math.isfinite(actual) or abs(actual - value) > tolerance:
        return f"{task}/{figure} is {actual:.4f}, expected {value} within {tolerance}"
    return None
