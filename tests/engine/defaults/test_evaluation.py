"""Evaluating on one dataset after another."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from drivetrain.engine.defaults.evaluation import evaluate_all
from drivetrain.evaluation import DatasetEvaluator


class Total(DatasetEvaluator):
    def reset(self) -> None:
        self.total = 0.0

    def process(self, inputs: Any, outputs: Any) -> None:
        self.total += float(outputs.sum())

    def evaluate(self) -> Mapping[str, Any]:
        return {"sum": {"total": self.total, "half": self.total / 2}}


def loader(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([value]) for value in values]


def test_one_dataset_gives_its_results_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        results = evaluate_all(torch.nn.Identity(), [("a", loader(1.0, 2.0), Total())])
    assert results == {"sum": {"total": 3.0, "half": 1.5}}
    assert "Evaluation results on a" in caplog.text


def test_several_give_them_by_name_in_order() -> None:
    parts = [("b", loader(1.0), Total()), ("a", loader(4.0), Total())]
    results = evaluate_all(torch.nn.Identity(), parts)
    assert list(results) == ["b", "a"] and results["a"]["sum"]["total"] == 4.0


def test_none_give_nothing() -> None:
    assert evaluate_all(torch.nn.Identity(), []) == {}


def test_results_of_any_kind_are_shown() -> None:
    class Flat(Total):
        def evaluate(self) -> Mapping[str, Any]:
            return {"accuracy": 0.5, "deep": {"a": {"b": 1.0}}}

    assert evaluate_all(torch.nn.Identity(), [("a", loader(1.0), Flat())])["accuracy"] == 0.5
