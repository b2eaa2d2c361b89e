from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from drivetrain.data.formats.coco_file import Section, paused_gc, read_coco_file
from drivetrain.data.formats.defects import DefectReport, Severity


def defects_of(path: Path, text: str | bytes) -> DefectReport:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    report = DefectReport(str(path))
    read_coco_file(path, report)
    return report


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ('{"images": [],\n "annotations" []}', "not valid JSON at line 2, column 16"),
        ("[]", "holds a JSON list, not an object; a list is a results file"),
        ("null", "holds a JSON null"),
        ("3", "holds a JSON number"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"\x80\x81", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("9" * 10_000, "not valid JSON"),
        ('{"images": [], "annotatons": [], "categories": []}', "'annotations' is missing; did you mean 'annotatons'"),
        ('{"images": [], "annotations": [], "images": []}', "an object has the name 'images' twice"),
        ('{"images": [{"id": 1, "i": 2, "\\n": 0, "\\n": 0}]}', r"the name '\\n' twice"),
        ("{}", r"'images' is missing \(it has: nothing\)"),
        ('{"images": {}, "annotations": [], "categories": []}', "'images' is a JSON object, not a list"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(tmp_path: Path, text: str | bytes, why: str) -> None:
    report = defects_of(tmp_path / "a.json", text)
    assert report.has_errors
    with pytest.raises(Exception, match=why):
        report.raise_if_errors()


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "instances_train.json").touch()
    for path, why in (
        (tmp_path / "instance_train.json", "does not exist; did you mean 'instances_train.json'"),
        (tmp_path / "no" / "a.json", "the folder .* does not exist either"),
        (tmp_path, "cannot be read"),
    ):
        report = DefectReport(str(path))
        assert read_coco_file(path, report) is None
        with pytest.raises(Exception, match=why):
            report.raise_if_errors()


def test_malformed_entries_do_not_hide_the_good_ones(tmp_path: Path) -> None:
    report = defects_of(tmp_path / "a.json", '{"images": [{"id": 1}, 5, null], "annotations": [], "categories": []}')
    assert report.counts == {"malformed entry": 2}
    assert "images[1] is 5, not an object" in report.to_text() and "images[2] is null" in report.to_text()


def test_a_rejected_entry_is_reported_once() -> None:
    report = DefectReport("a.json")
    section = Section("annotations", [{"id": 1, "image_id": 7}, {"id": "x\n"}], report)
    bad = np.array([False, True])
    section.note(bad, "odd", lambda i: "is odd", Severity.FIXED)
    section.reject(bad, "bad", lambda i: "is bad")
    section.reject(bad, "worse", lambda i: "is worse")
    assert report.counts == {"bad": 1, "odd": 1} and section.ok.tolist() == [True, False]
    assert section.where(0) == "annotations[0] (id 1, image_id 7)"
    assert section.where(1) == r'annotations[1] (id "x\n")'
    assert section.column("image_id", -1) == [7, -1]


def test_the_collector_is_as_it_was_afterwards() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError), paused_gc():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()
    gc.disable()
    try:
        with paused_gc():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
