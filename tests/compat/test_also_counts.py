"""Whose instances count."""

from __future__ import annotations

from drivetrain.compat.also_counts import AlsoCounts


class Own:
    pass


class Theirs(metaclass=AlsoCounts):
    also_counts = (Own,)


class Derived(Theirs):
    pass


def test_of_the_class_itself_alone() -> None:
    assert isinstance(Own(), Theirs) and isinstance(Theirs(), Theirs) and isinstance(Derived(), Theirs)
    assert isinstance(Derived(), Derived) and not isinstance(Own(), Derived) and not isinstance(Theirs(), Derived)
    assert not isinstance(3, Theirs)


def test_a_class_without_others() -> None:
    assert not isinstance(Own(), AlsoCounts("Alone", (), {}))
