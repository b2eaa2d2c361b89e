"""The table's part; tests/compat/test_table.py looks at all of it."""

from __future__ import annotations

from drivetrain.compat.importer import resolve
from drivetrain.compat.table_modeling import MODELING, MODELING_MODULES


def test_a_name_of_it_is_the_object_meant() -> None:
    found = resolve(MODELING["detectron2.modeling"]["build_model"])
    assert (found.__name__, found.__module__) == ("build_model", "drivetrain.compat.modeling")


def test_modules_are_modules_here() -> None:
    assert all(":" not in target and target.startswith("drivetrain.") for target in MODELING_MODULES.values())
