from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from drivetrain.data.catalog import DatasetCatalog
from drivetrain.errors import DatasetError, EvaluationError
from drivetrain.evaluation import DatasetEvaluator, DatasetEvaluators, PascalVOCDetectionEvaluator


class Tally(DatasetEvaluator):
    def __init__(self, name: str, calls: list[str], result: Any = None) -> None:
        self.name, self.calls = name, calls
        self.result = {name: {"n": 1.0}} if result is None else result

    def reset(self) -> None:
        self.calls.append(f"{self.name} reset")

    def process(self, inputs: Any, outputs: Any) -> None:
        self.calls.append(f"{self.name} {inputs} {outputs}")

    def evaluate(self) -> Any:
        return self.result


def test_base_class_does_nothing() -> None:
    evaluator = DatasetEvaluator()
    evaluator.reset()
    evaluator.process([1], [2])
    assert evaluator.evaluate() is None


def test_several_are_called_in_order_and_merged() -> None:
    calls: list[str] = []
    both = DatasetEvaluators(e for e in (Tally("b", calls), Tally("a", calls)))
    both.reset()
    both.process("in", "out")
    assert calls == ["b reset", "a reset", "b in out", "a in out"]
    assert both.evaluate() == OrderedDict([("b", {"n": 1.0}), ("a", {"n": 1.0})])
    assert list(both.evaluate()) == ["b", "a"]


def test_each_one_that_can_is_checked(catalog: None) -> None:
    DatasetCatalog.register("bare", lambda: [{"file_name": "a.jpg"}])
    able = PascalVOCDetectionEvaluator("bare")
    with pytest.raises(DatasetError, match=r"records\[0\] \(a.jpg\) has no 'image_id'"):
        DatasetEvaluators([DatasetEvaluator(), DatasetEvaluators([able])]).check()


def test_evaluators_without_a_result_and_nested_ones() -> None:
    silent = DatasetEvaluator()
    nested = DatasetEvaluators([silent, DatasetEvaluators([Tally("x", [])]), Tally("y", [], {})])
    assert nested.evaluate() == {"x": {"n": 1.0}}
    assert DatasetEvaluators([]).evaluate() == {}


def test_one_name_twice_is_an_error() -> None:
    class Other(Tally):
        pass

    with pytest.raises(EvaluationError, match=r"Tally and Other, both give results named 'bbox'"):
        DatasetEvaluators([Tally("bbox", []), Other("bbox", [])]).evaluate()
