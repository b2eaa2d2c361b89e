"""The table: every target exists, and every import that was counted in the wild is answered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drivetrain.compat.importer import resolve, sentence
from drivetrain.compat.table import ABSENT, MODULES, ROOTS, TABLE, known_modules, target_of

USAGE = Path(__file__).resolve().parents[3] / "shared" / "spec" / "detectron2-usage.md"
TARGETS = sorted({target for names in TABLE.values() for target in names.values()} | set(MODULES.values()))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_exists(target: str) -> None:
    assert resolve(target) is not None


def test_names_belong_to_the_roots_and_are_not_absent_too() -> None:
    assert {module.partition(".")[0] for module in known_modules()} == set(ROOTS)
    present = {f"{module}.{name}" for module, names in TABLE.items() for name in names} | set(TABLE)
    assert not present & set(ABSENT) - {"fvcore.nn"}
    assert all(reason and not reason.endswith(".") for reason in ABSENT.values())


def test_whole_modules_have_every_name_of_their_table() -> None:
    for module, target in MODULES.items():
        missing = [name for name in TABLE.get(module, ()) if not hasattr(resolve(target), name)]
        assert not missing, f"{target} stands for {module}, but lacks {missing}"


def test_targets_of_paths() -> None:
    assert target_of("detectron2.engine.DefaultTrainer") == "drivetrain.engine:DefaultTrainer"
    assert target_of("detectron2.utils.comm") == "drivetrain.runtime.comm"
    assert target_of("detectron2.evaluation.CityscapesEvaluator") is None
    assert target_of("detectron2.engine") is None


def counted() -> list[str]:
    """The import paths in the count of public code."""
    text = USAGE.read_text() if USAGE.is_file() else ""
    section = text.partition("## Import paths")[2].partition("##")[0]
    return [path.removesuffix(" (module)") for path in re.findall(r"`([^`]+)`", section)]


@pytest.mark.skipif(not USAGE.is_file(), reason="the count is not beside this checkout")
def test_every_counted_import_resolves_or_says_what_to_use() -> None:
    answered = {"there": 0, "absent": 0}
    for path in counted():
        if path in known_modules() or target_of(path):
            answered["there"] += 1
        else:
            told = [reason for prefix, reason in ABSENT.items() if path == prefix or path.startswith(f"{prefix}.")]
            assert told, f"{path} is neither in the table nor among what is absent"
            assert told[-1] in sentence(path) or len(told) > 1
            answered["absent"] += 1
    assert answered["there"] > 5 * answered["absent"] > 0
