"""Gathering mistakes and suggesting keys."""

from __future__ import annotations

import pytest

from drivetrain.config.problems import Problems, key_text, suggest
from drivetrain.errors import ConfigError, UnknownKeyError

KNOWN = ["SOLVER", "SOLVER.BASE_LR", "SOLVER.STEPS", "SOLVER.AMP.ENABLED", "INPUT.CROP.ENABLED", "MODEL.NUM_CLASSES"]


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("BASE_LR", "SOLVER.BASE_LR"),
        ("MODEL.BASE_LR", "SOLVER.BASE_LR"),
        ("solver.base_lr", "SOLVER.BASE_LR"),
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("SOLVR.BASE_LR", "SOLVER.BASE_LR"),
        ("STEP", "SOLVER.STEPS"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.NUM_CLASSES"),
        ("INPUT.ENABLED", "INPUT.CROP.ENABLED"),
        ("SOLVR", "SOLVER"),
    ],
)
def test_close_keys_are_suggested_also_from_other_levels(key: str, first: str) -> None:
    assert suggest(key, KNOWN).startswith(f"; did you mean '{first}'")


def test_nothing_close_nothing_suggested() -> None:
    assert suggest("QUANTIZATION.QAT.START_ITER", KNOWN) == ""
    assert suggest("X", []) == ""


def test_one_mistake_is_one_sentence_and_several_are_listed() -> None:
    problems = Problems()
    problems.raise_if_any()
    problems.add("a.yaml:3:", "A.B", "must be int")
    with pytest.raises(ConfigError) as one:
        problems.raise_if_any()
    assert str(one.value) == "a.yaml:3: A.B must be int"
    problems.add("", "C", "is not a key", unknown=True)
    with pytest.raises(ConfigError) as two:
        problems.raise_if_any()
    assert str(two.value) == "2 mistakes in the config:\n  a.yaml:3: A.B must be int\n  C is not a key"
    assert not isinstance(two.value, UnknownKeyError)


def test_unknown_keys_alone_have_their_own_error() -> None:
    problems = Problems()
    problems.add("", "C", "is not a key", unknown=True)
    with pytest.raises(UnknownKeyError) as error:
        problems.raise_if_any()
    assert isinstance(error.value, KeyError)
    assert isinstance(error.value, AttributeError)
    assert str(error.value) == "C is not a key"


def test_unprintable_keys_are_escaped() -> None:
    assert key_text(("A", "b\x1b[31m")) == "A.'b\\x1b[31m'"
    assert key_text(("A", "")) == "A.''"
    assert key_text((1, "b")) == "1.b"
