from __future__ import annotations

import math

from drivetrain.evaluation.tables import ClassRow, ResultTable, results_table

NAN = math.nan


def row(name: str, ap: float, ap50: float, ap75: float, instances: int) -> ClassRow:
    return ClassRow(name, {"AP": ap, "AP50": ap50, "AP75": ap75, "instances": instances})


def table(*rows: ClassRow) -> ResultTable:
    metrics = {"AP": 41.234, "AP50": 60.0, "AP75": NAN, "AP-cat": 3.0}
    return ResultTable(
        task="bbox",
        dataset="val",
        images=7,
        measure="average precision in percent",
        metrics=metrics,
        classes=rows,
        overall=row("all", 41.234, 60.0, NAN, 13),
    )


def test_text() -> None:
    text = str(table(row("cat", 3.0, 100.0, NAN, 12), row("a long name", NAN, NAN, NAN, 0)))
    assert text.splitlines() == [
        "bbox on val, 7 images, average precision in percent:",
        "     AP   AP50  AP75",
        "  41.23  60.00     -",
        "",
        "  class           AP    AP50  AP75  instances",
        "  cat           3.00  100.00     -         12",
        "  a long name      -       -     -          0",
        "  all          41.23   60.00     -         13",
    ]


def test_control_characters_of_a_name_are_escaped() -> None:
    text = str(table(row("a\x1b[2J\nb", 1, 1, 1, 1)))
    assert "\x1b" not in text and r"a\x1b[2J\nb" in text


def test_rows() -> None:
    rows = table(row("cat", 3.0, 100.0, 1.0, 12), row("dog", 4.0, 5.0, 6.0, 1)).rows()
    assert rows[0] == {"name": "cat", "AP": 3.0, "AP50": 100.0, "AP75": 1.0, "instances": 12}
    assert [r["name"] for r in rows] == ["cat", "dog", "all"]
    assert rows[2]["AP"] == 41.234 and rows[2]["instances"] == 13


def test_a_table_without_classes_can_be_shown() -> None:
    assert "all" in str(table())


def test_results_of_several_tasks_and_datasets() -> None:
    results = {"bbox": {"AP": 41.234, "AP50": 60, "AP-cat": 1.0}, "segm": {"AP": NAN, "APx": 3}, "top1": 0.5}
    assert results_table(results).splitlines() == [
        "  task     AP   AP50   APx  value",
        "  bbox  41.23  60.00     -      -",
        "  segm      -      -  3.00      -",
        "  top1      -      -     -   0.50",
    ]
    assert "  a/bbox  1.00\n  b/bbox  2.00" in results_table({"a": {"bbox": {"AP": 1}}, "b": {"bbox": {"AP": 2}}})
    assert results_table({}) == "  no results"
    own = results_table({"own": {1: 2, "note": "good\x1b"}, "said": None})
    assert own.splitlines() == [
        "  task     1      note  value",
        r"  own   2.00  good\x1b      -",
        "  said     -         -   None",
    ]
