"""The guide: its tables are those of the code, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from drivetrain.compat.guide import module_table, with_tables
from drivetrain.compat.table import ABSENT, STAND_INS, TABLE
from drivetrain.modeling.registry import MODELS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "from-detectron2.md"


def test_the_tables_are_up_to_date() -> None:
    text = GUIDE.read_text()
    assert with_tables(text) == text, "renew it: GUIDE.write_text(with_tables(GUIDE.read_text()))"
    assert all(f"`{path}`" in text for path in (*TABLE, *ABSENT))


def test_a_row_names_module_names_and_home() -> None:
    assert "| `detectron2.utils.registry` | `Registry` | `drivetrain.compat.registry` |" in module_table().splitlines()


def test_names_that_can_be_imported_alone_are_marked() -> None:
    row = next(row for row in module_table().splitlines() if row.startswith("| `detectron2.evaluation` |"))
    assert "`CityscapesInstanceEvaluator` †, " in row and "`COCOEvaluator`, " in row
    assert module_table().count("†") == len(STAND_INS) > 0


def test_other_text_stays() -> None:
    text = "a\n<!-- modules -->\nold\n<!-- end of modules -->\nb\n<!-- absent -->\n<!-- end of absent -->\nc\n"
    new = with_tables(text)
    assert new.startswith("a\n<!-- modules -->\n| module |") and "old" not in new and new.endswith("-->\nc\n")


def test_its_code_runs(finder: None) -> None:
    names: dict[str, Any] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL):
            exec(block, names)
    finally:
        MODELS.remove("Mine")
    assert names["cfg"].SOLVER.MAX_ITER == 300
