"""Fitting values to declared types."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.config.values import convert, convert_text, like, shown, type_text


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (True, bool, True),
        (3, int, 3),
        (3.0, int, 3),
        ("1e3", int, 1000),
        (2, float, 2.0),
        ("1e-4", float, 1e-4),
        ("inf", float, float("inf")),
        ("a", str, "a"),
        (Path("a/b"), str, "a/b"),
        (None, Optional[int], None),  # noqa: UP045 - typing's own spelling too
        (4, int | None, 4),
        ("12ep", int | str, "12ep"),
        (4, int | str, 4),
        ("b", Literal["a", "b"], "b"),
        ([1, 2], tuple[int, ...], (1, 2)),
        ((1, 2), list[int], [1, 2]),
        (7, tuple[int, ...], (7,)),
        ("name", tuple[str, ...], ("name",)),
        ("('a', 'b')", tuple[str, ...], ("a", "b")),
        ("(1, 2)", tuple[int, ...], (1, 2)),
        ([1, 2], tuple[float, float], (1.0, 2.0)),
        ([[1], [2, 3]], list[list[float]], [[1.0], [2.0, 3.0]]),
        (np.float64(0.5), float, 0.5),
        (np.int64(5), int, 5),
        (np.array([1.0, 2.0]), list[float], [1.0, 2.0]),
        ({"x": 1}, Any, {"x": 1}),
    ],
)
def test_fitting_values_come_back_in_exactly_the_declared_type(value: Any, kind: Any, expected: Any) -> None:
    result = convert(value, kind)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "part"),
    [
        (True, int, "must be int, received True"),
        (False, float, "must be float, received False"),
        (1, bool, "must be bool, received 1"),
        (1.5, int, "must be int, received 1.5"),
        (float("inf"), int, "must be int, received inf"),
        (float("nan"), int, "must be int, received nan"),
        ("fast", float, "must be float, received 'fast'"),
        (2**53 + 1, float, "must be float"),
        (10**400, float, "must be float"),
        (3, str, "must be str, received 3; write it in quotes"),
        (None, str, "write it in quotes"),
        (None, int, "must be int, received None"),
        ("c", Literal["a", "b"], "must be one of 'a', 'b', received 'c'"),
        (1, Literal[True], "must be one of True"),
        ([1, "x"], tuple[int, ...], "must be tuple of int, received [1, 'x']"),
        (3, tuple[str, ...], "must be tuple of str, received 3"),
        ([1, 2, 3], tuple[float, float], "must be tuple of (float, float)"),
        ([1, 2], list[list[float]], "must be list of list of float"),
        (3, list[list[float]], "must be list of list of float, received 3"),
        ([], int | str, "must be int or str, received []"),
        ({"a": 1}, tuple[int, ...], "must be tuple of int"),
    ],
)
def test_other_values_are_refused_with_the_type_and_the_value(value: Any, kind: Any, part: str) -> None:
    with pytest.raises(ValueError) as error:
        convert(value, kind)
    assert part in str(error.value)


def test_unsupported_types_are_a_mistake_of_the_schema() -> None:
    with pytest.raises(TypeError, match="not a type that a config key can have"):
        convert(1, set[int])
    with pytest.raises(TypeError):
        convert({1}, set)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("-1e-4", float, -1e-4),
        ("None", float | None, None),
        ("null", float | None, None),
        ("true", bool, True),
        ("False", bool, False),
        ("12ep", int | str, "12ep"),
        ("100", int | str, 100),
        ("123", str, "123"),
        ("'quoted text'", str, "quoted text"),
        ("None", str, "None"),
        ("#fff", str, "#fff"),
        ("a: b", str, "a: b"),
        ("coco", tuple[str, ...], ("coco",)),
        ("123", tuple[str, ...], ("123",)),
        ("[a, b]", tuple[str, ...], ("a", "b")),
        ("('a', 'b',)", tuple[str, ...], ("a", "b")),
        ("(30, 40)", tuple[int, ...], (30, 40)),
        ("[]", tuple[int, ...], ()),
        ("()", tuple[int, ...], ()),
        ("no", Literal["no", "yes"], "no"),
        ("", str, ""),
    ],
)
def test_typed_text_is_read_as_its_key_wants_it(text: str, kind: Any, expected: Any) -> None:
    result = convert_text(text, kind)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(("text", "kind"), [("x", int), ("", int), ("1,", float), ("[1, a]", list[int])])
def test_typed_text_that_does_not_fit_is_shown_as_typed(text: str, kind: Any) -> None:
    with pytest.raises(ValueError) as error:
        convert_text(text, kind)
    assert f"received {text!r}" in str(error.value)


@given(st.text())
def test_any_text_can_be_given_to_a_text_key_in_quotes(text: str) -> None:
    assert convert_text(repr(text), str) == text


@given(st.integers(), st.floats(allow_nan=False), st.booleans())
def test_values_written_as_text_are_read_back(whole: int, real: float, flag: bool) -> None:
    assert convert_text(str(whole), int) == whole
    assert convert_text(repr(real), float) == real
    assert convert_text(str(flag), bool) is flag


def test_undeclared_keys_keep_their_kind_of_sequence_and_number() -> None:
    assert like([1, 2], (3,)) == (1, 2)
    assert like((1, 2), [3]) == [1, 2]
    assert type(like(1, 0.5)) is float
    assert like("text", 5) == "text"
    assert like(True, 0.5) is True


def test_long_values_are_cut_in_messages() -> None:
    assert shown("short") == "'short'"
    assert len(shown("x" * 500)) < 100


def test_type_names() -> None:
    assert type_text(float | None) == "float or None"
    assert type_text(list[Any]) == "list of anything"
