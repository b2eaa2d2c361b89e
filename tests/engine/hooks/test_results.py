from __future__ import annotations

import logging
import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.engine.hooks.results import Metric, flatten_results
from drivetrain.errors import EvaluationError, TrainingError


def test_names_are_joined_and_values_become_floats() -> None:
    results = OrderedDict(bbox={"AP": 40, "AP-cat": torch.tensor(1.5)}, n=3, deep={"a": {"b": math.inf}})
    flat = flatten_results(results)
    assert flat == {"bbox/AP": 40.0, "bbox/AP-cat": 1.5, "n": 3.0, "deep/a/b": math.inf}
    assert all(type(value) is float for value in flat.values())


@pytest.mark.parametrize("value", [[1, 2], None, "high", object(), torch.zeros(2)])
def test_what_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(ValueError, match="'bbox/AP50'"):
        flatten_results({"bbox": {"AP": 1.0, "AP50": value}})


def test_a_bare_number_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"not 40.2 \(float\)"):
        flatten_results(40.2)  # type: ignore[arg-type]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_the_best_is_the_largest_finite_value(values: list[float]) -> None:
    metric = Metric("m")
    best: float | None = None
    for value in values:
        better = math.isfinite(value) and (best is None or value > best)
        assert metric.improves(value) == better
        best = value if better else best
        assert metric.best == best


def test_min_and_min_delta() -> None:
    metric = Metric("loss", "min", min_delta=0.25)
    values = [1.0, 0.875, 0.75, 1.5, 0.625, 0.375]
    assert [metric.improves(v) for v in values] == [True, False, True, False, False, True]
    assert metric.best == 0.375
    assert not Metric("m", min_delta=0.0).improves(math.nan)


def test_a_missing_metric_is_said_once_with_a_suggestion(caplog: pytest.LogCaptureFixture) -> None:
    metric = Metric("bbox/AP5O")
    with caplog.at_level(logging.WARNING):
        assert metric.read({}) is None  # a rank that knows nothing
        assert metric.read({"validation_loss": 1.0}) is None  # an evaluation of another kind
        assert not caplog.records
        assert metric.read({"bbox/AP50": 1.0, "bbox/AP": 2.0}) is None
        assert metric.read({"bbox/AP50": 1.0}) is None
    assert len(caplog.records) == 1
    assert "did you mean 'bbox/AP50'" in caplog.text
    assert metric.read({"bbox/AP5O": 3.0}) == 3.0


def test_bad_arguments() -> None:
    with pytest.raises(TrainingError, match=r"mode='maximum'"):
        Metric("m", "maximum")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"min_delta=-1"):
        Metric("m", "max", -1)
