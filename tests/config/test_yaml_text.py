"""YAML text to values and back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.config.yaml_text import dump_yaml, parse_value, parse_yaml
from drivetrain.errors import ConfigError

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words
data = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4", 1e-4),
        ("-2E3", -2000.0),
        ("1.", 1.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("3", 3),
        ("0x1f", 31),
        ("0o17", 15),
        ("010", "010"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("None", None),
        ("null", None),
        ("~", None),
        ("none", "none"),
        ("True", True),
        ("off", False),
        ("(1, 2)", (1, 2)),
        ("('a', )", ("a",)),
        ("(not python)", "(not python)"),
        ("'(1, 2)'", "(1, 2)"),
        ("'None'", "None"),
        ("(__import__('os').system('true'))", "(__import__('os').system('true'))"),
        ("12ep", "12ep"),
        ("1e", "1e"),
    ],
)
def test_plain_words(text: str, expected: Any) -> None:
    value = parse_yaml(f"KEY: {text}", "f").data["KEY"]
    assert value == expected
    assert type(value) is type(expected)


def test_every_key_has_its_line_and_duplicates_are_noted() -> None:
    document = parse_yaml("A: 1\nB:\n  C: 2\n  D: 3\n  C: 4\nA: 5\n", "f")
    assert document.data.lines == {"A": 6, "B": 2}
    assert document.data["B"].lines == {"C": 5, "D": 4}
    assert sorted(document.problems) == [
        (5, "C", "is given twice (first in line 3); keep one"),
        (6, "A", "is given twice (first in line 1); keep one"),
    ]


def test_anchors_and_merge_keys_work() -> None:
    document = parse_yaml("X: &x {a: 1, b: 2}\nY:\n  <<: *x\n  b: 3\n", "f")
    assert document.data["Y"] == {"a": 1, "b": 3}
    assert document.problems == []


def test_empty_text_is_an_empty_mapping() -> None:
    assert parse_yaml("", "f").data == {}
    assert parse_yaml("# only a comment\n", "f").data == {}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("A:\n  [1, 2", "f:2: this is not plain YAML"),
        ("A: 1\n\tB: 2", "f:2: this is not plain YAML"),
        ("A: !!python/object/apply:os.system ['true']", "f:1: this is not plain YAML"),
        ("A: !!python/name:os.system", "f:1: this is not plain YAML"),
        ("A: 1\n---\nB: 2", "this is not plain YAML"),
        ("? [a, b]\n: 1", "f:1: this is not plain YAML: a key must be a plain word"),
        ("A: *nothing", "undefined alias"),
        ("A: \x00", "this is not plain YAML"),
        ("&a A: *a\nB: &b {C: *b}", "expands to more than"),
        (BOMB, "expands to more than"),
        ("[" * 500, "nested too deeply"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_place(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, "f")
    assert part in str(error.value)


@given(data)
def test_what_is_dumped_is_read_back_equal_and_of_the_same_types(value: Any) -> None:
    back = parse_yaml(dump_yaml({"KEY": value}), "f").data["KEY"]
    assert back == value
    assert _types(back) == _types(value)


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _types(item) for key, item in value.items()}
    return [_types(item) for item in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4", 1e-4),
        ("(1, 'a')", (1, "a")),
        ("[a, 2]", ["a", 2]),
        ("{a: 1}", {"a": 1}),
        ("None", None),
        ("true", True),
        ("word", "word"),
        ("a: b", "a: b"),
        ("#fff", "#fff"),
        ("a #b", "a #b"),
        ("{a: 1, a: 2}", "{a: 1, a: 2}"),
        ("[broken", "[broken"),
        ("os.getcwd()", "os.getcwd()"),
    ],
)
def test_values_typed_on_a_command_line(text: str, expected: Any) -> None:
    assert parse_value(text) == expected
