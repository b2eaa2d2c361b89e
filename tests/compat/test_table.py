"""The table: every target exists, and every import that was counted in the wild is answered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from drivetrain.compat.importer import resolve
from drivetrain.compat.table import ABSENT, MODULES, ROOTS, STAND_INS, TABLE, known_modules, target_of

USAGE = Path(__file__).resolve().parents[3] / "shared" / "spec" / "detectron2-usage.md"
TARGETS = sorted({target for names in TABLE.values() for target in names.values()} | set(MODULES.values()))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_exists(target: str) -> None:
    assert resolve(target) is not None


def test_names_belong_to_the_roots_and_are_not_absent_too() -> None:
    assert {module.partition(".")[0] for module in known_modules()} == set(ROOTS)
    present = {f"{module}.{name}" for module, names in TABLE.items() for name in names}
    assert present & set(ABSENT) == set(STAND_INS), "these alone are both: they can be imported, and not used"
    assert all(reason and not reason.endswith(".") for reason in ABSENT.values())


def test_whole_modules_have_every_name_of_their_table() -> None:
    for module, target in MODULES.items():
        missing = [name for name in TABLE.get(module, ()) if not hasattr(resolve(target), name)]
        assert not missing, f"{target} stands for {module}, but lacks {missing}"


def test_targets_of_paths() -> None:
    assert target_of("detectron2.engine.DefaultTrainer") == "drivetrain.engine:DefaultTrainer"
    assert target_of("detectron2.utils.comm") == "drivetrain.runtime.comm"
    assert target_of("detectron2.structures.RotatedBoxes") is None
    assert target_of("detectron2.engine") is None


def counted() -> list[str]:
    """The import paths in public code, those of the most files first."""
    lines = (Path(__file__).parent / "imports.txt").read_text().splitlines()
    return [line.split()[1] for line in lines if not line.startswith("#")]


MAY_BE_ABSENT = ("detectron2.modeling.roi_heads.ROI_HEADS_REGISTRY",)  # in one file


@pytest.mark.parametrize("path", counted())
def test_every_counted_import_works_or_says_what_to_use(path: str, finder: None) -> None:
    module, _, name = path.rpartition(".")
    statement = f"from {module} import {name}" if module else f"import {path}"
    if path not in MAY_BE_ABSENT:
        exec(statement)
        return
    try:
        exec(statement)
    except ImportError as error:
        assert any(str(error).endswith(f"in drivetrain: {reason}") for reason in ABSENT.values())


@pytest.mark.parametrize("path", [path for path in counted() if path in MODULES])
def test_modules_among_them_can_be_given_a_name(path: str, finder: None) -> None:
    names: dict[str, Any] = {}
    exec(f"import {path} as module", names)
    assert all(hasattr(names["module"], name) for name in TABLE.get(path, ()))


def test_the_count_is_that_of_the_specification() -> None:
    if not USAGE.is_file():
        pytest.skip("the count is not beside this checkout")
    section = USAGE.read_text().partition("## Import paths")[2].partition("##")[0]
    assert counted() == [path.removesuffix(" (module)") for path in re.findall(r"`([^`]+)`", section)]
