from __future__ import annotations

import logging
import time

import pytest

from drivetrain.data.formats.defects import Defect, DefectReport, Severity, first_repeated
from drivetrain.errors import DatasetError


def report() -> DefectReport:
    made = DefectReport("a.json", max_examples=2)
    made.add_many("over the edge", Severity.FIXED, range(1500), lambda i: (f"annotations[{i}]", f"is box {i}"))
    made.add(Defect("unknown category", "annotations[3]", "has category 9", Severity.ERROR))
    made.add(Defect("unknown category", "annotations[4]", "has category 8", Severity.ERROR))
    made.add(Defect("no area", "annotations[5]", "is flat", Severity.DROPPED))
    return made


def test_counts_by_kind_and_severity() -> None:
    made = report()
    assert made.counts == {"unknown category": 2, "no area": 1, "over the edge": 1500}
    assert [made.count(s) for s in Severity] == [2, 1, 1500]
    assert len(made) == 1503 and made and made.has_errors


def test_only_the_first_examples_are_described_and_kept() -> None:
    described: list[int] = []
    made = DefectReport("a.json", max_examples=2)
    made.add_many("k", Severity.FIXED, range(100), lambda i: described.append(i) or ("", ""))
    assert described == [0, 1] and len(next(iter(made)).examples) == 2


def test_text_starts_with_errors_and_says_how_many_more() -> None:
    text = report().to_text()
    assert text.splitlines()[:2] == ["  error: unknown category (2)", "    annotations[3] has category 9"]
    assert text.splitlines()[-4:] == [
        "  fixed: over the edge (1,500)",
        "    annotations[0] is box 0",
        "    annotations[1] is box 1",
        "    ... and 1,498 more",
    ]
    assert report().rows()[0] == ("error", "unknown category", 2, "annotations[3] has category 9")
    assert str(DefectReport("a.json")) == "a.json: no defects"


def test_errors_are_raised_together() -> None:
    with pytest.raises(DatasetError) as caught:
        report().raise_if_errors()
    message = str(caught.value)
    assert message.startswith("a.json has 2 errors:") and "category 9" in message and "category 8" in message
    assert "flat" not in message


def test_a_single_error_is_one_sentence() -> None:
    made = DefectReport("a.json")
    made.add(Defect("k", "images[0]", "has no 'id'", Severity.ERROR))
    with pytest.raises(DatasetError, match=r"^a\.json: images\[0\] has no 'id'$"):
        made.raise_if_errors()


def test_nothing_to_raise_and_nothing_to_log(caplog: pytest.LogCaptureFixture) -> None:
    made = DefectReport("a.json")
    made.raise_if_errors()
    made.log(logging.getLogger("test"))
    assert caplog.records == [] and not made


def test_what_was_left_out_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    report().log(logging.getLogger("test"))
    assert len(caplog.records) == 1
    assert "a.json: 1 annotations left out, 1,500 corrected" in caplog.text and "category 9" not in caplog.text


def test_a_text_of_any_length_is_cut() -> None:
    text = str(Defect("k", "images[0]", "names " + "n" * 100_000, Severity.ERROR))
    assert len(text) == 600 and text.startswith("images[0] names nnn") and text.endswith("n...")


def test_an_error_in_short() -> None:
    report = DefectReport("a.json")
    report.error("odd", "is odd", "images[3]")
    report.error("odd", "the file is odd")
    assert report.rows() == [("error", "odd", 2, "images[3] is odd")]
    assert [str(e) for group in report for e in group.examples] == ["images[3] is odd", "the file is odd"]


def test_the_first_that_comes_again_is_found_in_time() -> None:
    assert first_repeated([]) is None and first_repeated("abc") is None
    assert first_repeated(["a", "b", "c", "b", "a"]) == "b"
    start = time.process_time()
    assert first_repeated([*range(300_000), 299_999]) == 299_999
    assert time.process_time() - start < 2  # looking through all before each took minutes
