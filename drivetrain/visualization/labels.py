"""Text labels in pictures: the font, and places where labels hide each other least."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

from .palette import text_color

__all__ = ["Label", "draw_label", "load_font", "place_label", "printable", "writable"]

_SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "wqy-microhei.ttc",
)
_LETTERS = {"ß": "ss", "æ": "ae", "ø": "o", "đ": "d", "ł": "l", "ı": "i", "…": "...", "–": "-", "—": "-", "×": "x"}

Rect = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels."""


@dataclass(frozen=True)
class Label:
    """A text and the rectangle behind it.

    Attributes:
        text: what is written.
        rect: (left, top, right, bottom) in pixels.
        color: of the rectangle, R, G, B in 0..255.
    """

    text: str
    rect: Rect
    color: tuple[int, int, int]


def load_font(size: float, texts: Iterable[str] = ()) -> ImageFont.FreeTypeFont:
    """A font with which the texts can be written.

    That is Pillow's own, which needs no file. It knows little beyond English, so for other texts the one of the
    usual system fonts that lacks the fewest characters is taken, if there is any.

    Args:
        size: in pixels.
        texts: what will be written.
    """
    own = ImageFont.load_default(size=size)
    if not isinstance(own, ImageFont.FreeTypeFont):
        raise RuntimeError("drawing text needs a Pillow with FreeType, which this one lacks: pip install Pillow")
    needed = {c for text in texts for c in text if not c.isspace()}
    best, fewest = own, _missing(own, needed)
    for name in _SYSTEM_FONTS if fewest else ():
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        missing = _missing(font, needed)
        if missing < fewest:
            best, fewest = font, missing
    return best


def writable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text with characters that the font lacks replaced: by their base letter (é by e), else by ``?``."""
    return "".join(_replacement(c, font) if not c.isspace() and _missing(font, c) else c for c in text)


def printable(text: str, most: int = 40) -> str:
    """The text on one line: control characters become spaces, and of a long text the middle is left out."""
    line = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).split())
    if len(line) <= most:
        return line
    head = (most - 1) * 2 // 3
    return f"{line[:head]}…{line[len(line) - (most - 1 - head) :]}"


def place_label(
    text: str,
    box: Rect,
    color: tuple[int, int, int],
    *,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
    taken: list[Rect],
) -> Label:
    """Find the place for a box's label: above it, inside, or below, where it covers other labels least.

    Args:
        text: one line.
        box: the box the label belongs to, in pixels.
        color: of the label's background.
        font: from :func:`load_font`.
        size: (width, height) of the picture; the label is moved inside it.
        taken: rectangles of the labels placed so far.
    """
    padding = max(2.0, font.size * 0.22)
    width = font.getlength(text) + 2 * padding
    height = font.size * 1.12 + padding
    left, right = (min(max(x, 0.0), float(size[0])) for x in (box[0], box[2]))
    top, bottom = (min(max(y, 0.0), float(size[1])) for y in (box[1], box[3]))
    candidates = [
        (left, top - height),
        (left, top),
        (right - width, top - height),
        (right - width, top),
        (left, bottom),
        (left, bottom - height),
        (right - width, bottom),
    ]
    best: tuple[float, Rect] | None = None
    for rank, (x, y) in enumerate(candidates):
        inside_x = min(max(x, 0.0), max(size[0] - width, 0.0))
        inside_y = min(max(y, 0.0), max(size[1] - height, 0.0))
        rect = (inside_x, inside_y, inside_x + width, inside_y + height)
        covered = sum(_overlap(rect, other) for other in taken) / (width * height)
        moved = (abs(inside_x - x) + abs(inside_y - y)) / height
        cost = covered + 0.3 * moved + 0.02 * rank
        if best is None or cost < best[0]:
            best = (cost, rect)
    assert best is not None  # there are always candidates
    return Label(text, best[1], color)


def draw_label(draw: ImageDraw.ImageDraw, label: Label, font: ImageFont.FreeTypeFont) -> None:
    """Draw the rectangle and the text, in black or white, in its middle."""
    left, top, right, bottom = label.rect
    draw.rounded_rectangle(label.rect, radius=font.size * 0.22, fill=(*label.color, 235))
    draw.text(
        ((left + right) / 2, (top + bottom) / 2),
        label.text,
        fill=(*text_color(label.color), 255),
        font=font,
        anchor="mm",
    )


def _overlap(a: Rect, b: Rect) -> float:
    """Area that two rectangles share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _missing(font: ImageFont.FreeTypeFont, characters: Iterable[str]) -> int:
    """For how many characters the font draws the box that stands for an unknown one."""
    unknown = _drawn(font, "\U0010ffff")
    return sum(not c.isascii() and _drawn(font, c) == unknown for c in characters)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _replacement(character: str, font: ImageFont.FreeTypeFont) -> str:
    base = _LETTERS.get(character) or unicodedata.normalize("NFKD", character)
    plain = "".join(c for c in base if not unicodedata.combining(c))
    return plain if plain and not _missing(font, plain) else "?"
