"""Colours of classes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from drivetrain.visualization.palette import class_color, text_color


def _luminance(color: tuple[int, int, int]) -> float:
    """WCAG 2 relative luminance."""
    r, g, b = (c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_colours_are_stable() -> None:
    # Pictures of different versions are compared, so these never change.
    assert [class_color(i) for i in range(3)] == [(255, 100, 95), (28, 223, 157), (156, 94, 239)]


def test_the_first_twenty_classes_are_told_apart() -> None:
    colors = [class_color(i) for i in range(20)]
    for a, b in itertools.combinations(colors, 2):
        assert sum(abs(x - y) for x, y in zip(a, b, strict=True)) >= 30, (a, b)
    for a, b in itertools.pairwise(colors):
        assert sum(abs(x - y) for x, y in zip(a, b, strict=True)) >= 120, (a, b)


def test_no_two_of_a_thousand_are_equal_in_a_row_and_no_class_is_grey() -> None:
    assert class_color(-1) == (160, 160, 160)
    for i in range(1000):
        color = class_color(i)
        assert max(color) - min(color) > 60
        assert all(0 <= c <= 255 for c in color)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_text_can_be_read_on_any_colour(background: tuple[int, int, int]) -> None:
    lighter, darker = sorted((_luminance(background), _luminance(text_color(background))), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG AA
