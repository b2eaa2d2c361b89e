"""Declaring keys."""

# ruff: noqa: RUF009 - option() and section() make dataclass fields
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from drivetrain.config import option, section
from drivetrain.config.schema import options_of


@dataclass(frozen=True)
class Inner:
    """An inner section."""

    DEPTH: int = option(3, "How deep.", min=1, max=9)


@dataclass(frozen=True)
class Outer:
    """The outer section."""

    NAME: Literal["a", "b"] = option("a", "Which.")
    RATES: tuple[float, ...] = option((0.5,), "Rates.", min=0, max=1)
    LEVEL: int = option(2, "Level.", choices=(1, 2))
    FREE: dict[str, Any] = option({}, "Anything.")
    INNER: Inner = section(Inner)


def test_options_are_listed_in_order_with_their_descriptions() -> None:
    options = options_of(Outer)
    assert list(options) == ["NAME", "RATES", "LEVEL", "FREE", "INNER"]
    assert [o.type_text for o in options.values()] == [
        "one of 'a', 'b'",
        "tuple of float",
        "one of 1, 2",
        "dict",
        "section",
    ]
    assert options["RATES"].default == (0.5,)
    assert options["RATES"].doc == "Rates."
    assert options["INNER"].doc == "An inner section."
    assert options["INNER"].schema is Inner
    assert options["FREE"].is_free and not options["INNER"].is_free
    with pytest.raises(TypeError):
        options["NEW"] = options["NAME"]  # type: ignore[index]


def test_the_schema_is_a_usable_dataclass() -> None:
    assert Outer().INNER.DEPTH == 3
    assert Outer().FREE is not Outer().FREE


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("NAME", "c", "must be one of 'a', 'b', received 'c'"),
        ("RATES", [0.5, 1.5], "must be between 0 and 1, received (0.5, 1.5)"),
        ("RATES", [float("nan")], "must be between 0 and 1, received (nan,)"),
        ("LEVEL", 3, "must be one of 1, 2, received 3"),
        ("LEVEL", "x", "must be int, received 'x'"),
        ("FREE", 3, "must be a section with keys of its own, received 3"),
        ("INNER", [1], "must be a section with keys of its own, received [1]"),
    ],
)
def test_values_are_checked(name: str, value: Any, text: str) -> None:
    with pytest.raises(ValueError) as error:
        options_of(Outer)[name].accept(value)
    assert str(error.value) == text


def test_bounds_are_named_one_sided_too_and_leave_other_union_members_alone() -> None:
    @dataclass(frozen=True)
    class Bounded:
        LOW: int | str = option(1, "At least one, or text.", min=1)
        HIGH: float = option(0.0, "At most zero.", max=0)
        RATE: float = option(0.0, "At least zero.", min=0)

    options = _local_options(Bounded, {"LOW": int | str, "HIGH": float, "RATE": float})
    for name in ("HIGH", "RATE"):
        with pytest.raises(ValueError, match=r"must be at (least|most) 0, received nan"):
            options[name].accept(float("nan"))
    assert options["LOW"].accept("zero") == "zero"
    with pytest.raises(ValueError, match="must be at least 1, received 0"):
        options["LOW"].accept(0)
    with pytest.raises(ValueError, match=r"must be at most 0, received 0\.1"):
        options["HIGH"].accept_text("0.1")


def _local_options(schema: type, kinds: dict[str, Any]) -> Any:
    schema.__annotations__ = kinds  # annotations of a class in a function cannot be resolved by name
    return options_of(schema)


def test_own_checks_run_on_the_converted_value() -> None:
    seen: list[Any] = []

    def even(value: int) -> None:
        seen.append(value)
        if value % 2:
            raise ValueError(f"must be even, received {value}")

    @dataclass(frozen=True)
    class Even:
        N: int = option(2, "Even.", check=even)

    declared = _local_options(Even, {"N": int})["N"]
    assert declared.accept_text("4.0") == 4
    assert seen[-1] == 4 and type(seen[-1]) is int
    with pytest.raises(ValueError, match="must be even, received 3"):
        declared.accept(3)


def test_mistakes_in_a_schema_are_type_errors() -> None:
    @dataclass(frozen=True)
    class NotDeclared:
        A: int = field(default=1)

    @dataclass(frozen=True)
    class WrongDefault:
        A: int = option(0, "At least one.", min=1)

    with pytest.raises(TypeError, match=r"NotDeclared.A is not declared by option"):
        _local_options(NotDeclared, {"A": int})
    with pytest.raises(TypeError, match=r"the default of WrongDefault.A must be at least 1, received 0"):
        _local_options(WrongDefault, {"A": int})
    with pytest.raises(TypeError, match="is not a dataclass"):
        options_of(int)
