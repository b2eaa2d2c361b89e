"""Text in pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from drivetrain.visualization import labels
from drivetrain.visualization.labels import Label, draw_label, load_font, place_label, printable, writable

_FONT = load_font(12)
_RED = (255, 0, 0)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


@given(
    st.tuples(*[st.floats(-300, 500)] * 2),
    st.tuples(*[st.floats(0, 400)] * 2),
    st.text(min_size=1, max_size=20).map(printable).filter(bool),
)
def test_a_label_lies_inside_the_picture(corner: tuple[float, ...], size: tuple[float, ...], text: str) -> None:
    box = (corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])
    rect = place_label(text, box, _RED, font=_FONT, size=(600, 300), taken=[]).rect
    assert 0 <= rect[0] < rect[2] <= 600
    assert 0 <= rect[1] < rect[3] <= 300


def test_a_label_stands_above_its_box_when_there_is_room() -> None:
    rect = place_label("cat", (50, 100, 150, 180), _RED, font=_FONT, size=(600, 300), taken=[]).rect
    assert rect[0] == 50
    assert rect[3] == 100


def test_labels_of_equal_boxes_do_not_cover_each_other() -> None:
    placed: list[tuple[float, float, float, float]] = []
    for _ in range(4):
        placed.append(place_label("cat 99%", (50, 100, 250, 200), _RED, font=_FONT, size=(600, 300), taken=placed).rect)
    assert all(_overlap(a, b) == 0 for i, a in enumerate(placed) for b in placed[:i])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "cat"),
        ("a\x1b[31m\nb\t c\u202e", "a [31m b c"),
        ("x" * 41, "x" * 26 + "…" + "x" * 13),
        ("", ""),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_characters_the_font_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_SYSTEM_FONTS", ())
    font = load_font(12, ["Café"])
    lacking = {c for c in "éß名" if bytes(font.getmask(c)) == bytes(font.getmask("\U0010ffff"))}
    expected = {"é": "e", "ß": "ss", "名": "?"}
    for c in "éß名":
        assert writable(f"a {c}", font) == f"a {expected[c] if c in lacking else c}"
    assert writable("plain text 12%", font) == "plain text 12%"


def test_a_system_font_is_taken_when_it_has_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = ImageFont.truetype

    def truetype(font: Any, *args: Any, **kwargs: Any) -> ImageFont.FreeTypeFont:
        if isinstance(font, str):
            asked.append(font)
        return original(font, *args, **kwargs)

    monkeypatch.setattr(labels.ImageFont, "truetype", truetype)
    load_font(12, ["plain"])
    assert asked == []  # the own font has it all
    load_font(12, ["名"])
    assert asked  # it was looked for


def test_a_label_is_drawn_in_its_colour() -> None:
    picture = Image.new("RGB", (100, 40))
    draw_label(ImageDraw.Draw(picture, "RGBA"), Label("i", (10, 5, 90, 30), (250, 250, 0)), _FONT)
    pixels = np.array(picture)
    assert pixels[17, 15].tolist() == pytest.approx([230, 230, 0], abs=2)  # 235/255 of it on black
    assert pixels[38, 50].tolist() == [0, 0, 0]
    assert (pixels[5:30, 40:60].sum(axis=2) < 60).any()  # the letter, black on yellow
