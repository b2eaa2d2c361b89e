from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from drivetrain.errors import ConfigError, EvaluationError
from drivetrain.evaluation import flatten_results_dict, print_csv_format, verify_results

RESULTS = {"bbox": {"AP": 41.23456, "AP50": 60.0, "AP-cat": 1.0}, "segm": {"AP": float("nan")}, "score": 0.5}


def expecting(*entries: Any) -> Any:
    return SimpleNamespace(TEST=SimpleNamespace(EXPECTED_RESULTS=list(entries)))


def test_flatten() -> None:
    assert flatten_results_dict({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a/b/c": 1, "a/d": 2, "e": 3}
    assert flatten_results_dict({}) == {}


def test_csv_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        print_csv_format(RESULTS)
    assert [r.getMessage() for r in caplog.records] == [
        "copypaste: Task: bbox",
        "copypaste: AP,AP50",
        "copypaste: 41.2346,60.0000",
        "copypaste: Task: segm",
        "copypaste: AP",
        "copypaste: nan",
        "copypaste: score=0.5",
    ]


def test_csv_lines_of_figures_that_are_no_numbers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        print_csv_format({"own": {1: 2, "note": "good", "none": None}})
    assert [r.getMessage() for r in caplog.records][1:] == ["copypaste: 1,note,none", "copypaste: 2.0000,good,None"]


def test_csv_lines_of_several_datasets(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        print_csv_format({"val_a": {"bbox": {"AP": 1}}, "val_b": {"bbox": {"AP": 2}}})
    lines = [r.getMessage() for r in caplog.records]
    assert lines[0] == "copypaste: Dataset: val_a" and lines[4] == "copypaste: Dataset: val_b"
    assert lines[1:4] == ["copypaste: Task: bbox", "copypaste: AP", "copypaste: 1.0000"]


def test_expected_results_met() -> None:
    assert verify_results(expecting(), RESULTS) is True
    assert verify_results(expecting(["bbox", "AP", 41.2, 0.1], ("bbox", "AP50", 59, 1.0)), RESULTS) is True


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["bbox", "AP", 41.0, 0.1], r"bbox/AP is 41.2346, expected 41.0 within 0.1"),
        (["bbox", "AP", 41.5, 0.1], r"bbox/AP is 41.2346, expected 41.5 within 0.1"),
        (["segm", "AP", 41.0, 100], r"segm/AP is nan"),
        (["bbox", "APx", 41.0, 0.1], r"bbox/APx was not measured \(there are: bbox/AP, "),
        (["keypoints", "AP", 41.0, 0.1], r"keypoints/AP was not measured"),
        (["score", "AP", 41.0, 0.1], r"score/AP was not measured"),
    ],
)
def test_expected_results_missed(entry: list[Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message) as caught:
        verify_results(expecting(["bbox", "AP50", 60, 0.1], entry), RESULTS)
    assert "1 of 2 results" in str(caught.value)


@pytest.mark.parametrize("entry", [["bbox", "AP", 1.0], 3, ["bbox", "AP", "high", 0.1]])
def test_malformed_expectation(entry: Any) -> None:
    with pytest.raises(ConfigError, match=r"EXPECTED_RESULTS is \[task, figure, value, tolerance\]"):
        verify_results(expecting(entry), RESULTS)
