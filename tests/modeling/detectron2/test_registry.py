"""Parts of models by name."""

from __future__ import annotations

import pytest

from drivetrain.errors import UserInputError
from drivetrain.modeling.detectron2.registry import Registry


def test_decorator_and_call() -> None:
    registry = Registry("THINGS")

    @registry.register()
    class One:
        pass

    def two() -> None: ...

    registry.register(two)
    assert registry.get("One") is One and "two" in registry and [name for name, _ in registry] == ["One", "two"]
    with pytest.raises(KeyError, match=r"THINGS has no 'on'.*did you mean 'One'"):
        registry.get("on")
    with pytest.raises(UserInputError, match=r"'One' is already registered in THINGS"):
        registry.register(type("One", (), {}))
    registry.remove("One")
    assert "One" not in registry and repr(registry) == "Registry(THINGS: two)"
    with pytest.raises(KeyError, match="THINGS has no 'One'"):
        registry.remove("One")


def test_it_may_start_with_some_and_takes_what_a_script_defines_twice() -> None:
    def build() -> int:
        return 1

    registry = Registry("THINGS", [build])
    assert registry.get("build") is build

    def again() -> int:
        return 2

    again.__name__, again.__qualname__ = "build", build.__qualname__
    registry.register(again)
    assert registry.get("build") is again
