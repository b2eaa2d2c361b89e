from __future__ import annotations

import logging
from pathlib import Path

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.defects import Defect, DefectReport, Severity
from drivetrain.data.formats.entry import (
    ReadDataset,
    checked_path,
    fill_metadata,
    finish_report,
    register_dataset,
)
from drivetrain.errors import DatasetError

logger = logging.getLogger("drivetrain.test_entry")


def test_both_or_neither_is_registered() -> None:
    register_dataset("entry", lambda: [{"x": 1}], {"evaluator_type": "coco"})
    assert DatasetCatalog.get("entry") == [{"x": 1}]
    MetadataCatalog.get("other").evaluator_type = "sem_seg"
    with pytest.raises(DatasetError, match="evaluator_type"):
        register_dataset("other", list, {"evaluator_type": "coco"})
    assert "other" not in DatasetCatalog


def test_paths() -> None:
    assert checked_path(Path("a"), "images", "d") == "a"
    for wrong in (None, 5, ""):
        with pytest.raises(DatasetError, match="images of dataset 'd' must be a path"):
            checked_path(wrong, "images", "d")


def test_metadata_is_filled_where_it_is_empty_and_compared_elsewhere() -> None:
    MetadataCatalog.get("entry").thing_classes = ("a", "b")
    fill_metadata("entry", {"thing_classes": ["a", "b"], "keypoint_names": ["x"]}, "a.json")
    assert MetadataCatalog.get("entry").keypoint_names == ["x"]
    with pytest.raises(DatasetError, match=r"thing_classes given for dataset 'entry' is \('a', 'b'\), but a\.json has"):
        fill_metadata("entry", {"thing_classes": ["b", "a"]}, "a.json")
    fill_metadata(None, {"thing_classes": []}, "a.json")


def test_a_report_is_finished(caplog: pytest.LogCaptureFixture) -> None:
    report = DefectReport("a.json")
    read = ReadDataset([{}], "images")
    with caplog.at_level(logging.INFO, logger.name):
        assert finish_report(report, read, logger) is read
        report.add(Defect("left out", "x", "is odd", Severity.DROPPED))
        finish_report(report, read, logger)
    assert "a.json: 1 images" in caplog.text and "x is odd" in caplog.text
    with pytest.raises(DatasetError, match="could not be read"):
        finish_report(report, None, logger)
    report.error("wrong", "is wrong", "y")
    with pytest.raises(DatasetError, match=r"a\.json: y is wrong"):
        finish_report(report, read, logger)
