"""Several pictures in one: a grid with captions, and two beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .labels import Label, draw_label, load_font, printable, writable
from .palette import text_color

__all__ = ["captioned", "contact_sheet", "side_by_side"]

Array = np.ndarray[Any, Any]


def contact_sheet(
    pictures: Sequence[tuple[str, Array]],
    *,
    columns: int | None = None,
    cell_width: int = 480,
    background: tuple[int, int, int] = (24, 24, 27),
) -> Array:
    """A grid of pictures with a caption under each.

    Every cell has the same size; its height follows from the pictures' median aspect ratio, and a picture is
    scaled, never distorted or cut, to fit.

    Args:
        pictures: (caption, uint8 RGB array (height, width, 3)) of each, row by row.
        columns: how many a row; about as many as rows by default.
        cell_width: in pixels.
        background: (R, G, B); captions are black or white, whatever is readable on it.

    Returns:
        uint8 array (height, width, 3).

    Raises:
        ValueError: there is no picture, or ``columns`` or ``cell_width`` is not positive.
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture, none was given")
    if cell_width <= 0 or (columns is not None and columns <= 0):
        raise ValueError(f"columns and cell_width must be positive, but {columns} and {cell_width} were received")
    across = min(columns or math.ceil(math.sqrt(len(pictures))), len(pictures))
    aspects = sorted(image.shape[0] / image.shape[1] for _, image in pictures)
    cell_height = max(1, round(cell_width * aspects[len(aspects) // 2]))
    gap = max(4, cell_width // 32)
    texts = [printable(caption, 200) for caption, _ in pictures]
    font = load_font(max(11.0, cell_width / 28), texts)
    strip = round(font.size * 1.9) if any(texts) else 0
    rows = math.ceil(len(pictures) / across)
    size = (across * (cell_width + gap) + gap, rows * (cell_height + strip + gap) + gap)
    sheet = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(sheet)
    for number, (text, (_, image)) in enumerate(zip(texts, pictures, strict=True)):
        left = gap + (number % across) * (cell_width + gap)
        top = gap + (number // across) * (cell_height + strip + gap)
        fitted = _fitted(image, cell_width, cell_height)
        x, y = left + (cell_width - fitted.width) // 2, top + (cell_height - fitted.height) // 2
        sheet.paste(fitted, (x, y))
        if text:
            short = _shortened(writable(text, font), font, cell_width)
            middle = (left + cell_width / 2, top + cell_height + strip / 2)
            draw.text(middle, short, font=font, fill=text_color(background), anchor="mm")
    return np.array(sheet)


def side_by_side(
    left: Array,
    right: Array,
    captions: tuple[str, str] = ("prediction", "ground truth"),
    *,
    gap_color: tuple[int, int, int] = (255, 255, 255),
) -> Array:
    """Two pictures at one height, each with its caption as a tag in the lower left corner.

    Args:
        left: uint8 RGB array (height, width, 3).
        right: likewise; scaled to the height of ``left``.
        captions: of the left and of the right one; an empty one is left out.
        gap_color: (R, G, B) of the strip between them.

    Returns:
        uint8 array (height of ``left``, width, 3).
    """
    height = left.shape[0]
    width = max(1, round(right.shape[1] * height / right.shape[0]))
    other = Image.fromarray(np.ascontiguousarray(right))
    if right.shape[0] != height:
        other = other.resize((width, height), Image.Resampling.LANCZOS)
    gap = max(2, (left.shape[1] + width) // 160)
    joined = Image.new("RGB", (left.shape[1] + gap + width, height), gap_color)
    joined.paste(Image.fromarray(np.ascontiguousarray(left)), (0, 0))
    joined.paste(other, (left.shape[1] + gap, 0))
    draw = ImageDraw.Draw(joined, "RGBA")
    texts = [printable(caption) for caption in captions]
    font = load_font(max(11.0, height * 0.032), texts)
    for text, x in zip(texts, (0, left.shape[1] + gap), strict=True):
        if text:
            _tag(draw, writable(text, font), x, height, font)
    return np.array(joined)


def captioned(image: Array, caption: str, *, min_side: int = 0) -> Array:
    """A copy of a picture with a caption as a tag in the lower left corner.

    Args:
        image: uint8 RGB array (height, width, 3).
        caption: the text.
        min_side: a smaller picture is enlarged until its shorter side has this many pixels; 0 keeps the size.

    Returns:
        uint8 array (H, W, 3).
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    scale = min_side / min(picture.size)
    if scale > 1:
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
        )
    font = load_font(max(11.0, picture.height * 0.032), [caption])
    _tag(ImageDraw.Draw(picture, "RGBA"), writable(caption, font), 0, picture.height, font)
    return np.array(picture)


def _tag(draw: ImageDraw.ImageDraw, text: str, x: float, bottom: float, font: ImageFont.FreeTypeFont) -> None:
    """A dark label whose lower left corner is near (x, bottom)."""
    margin = font.size * 0.4
    width, height = font.getlength(text) + font.size * 0.9, font.size * 1.5
    top = bottom - margin - height
    rect = (x + margin, top, x + margin + width, top + height)
    draw_label(draw, Label(text, rect, (24, 24, 27)), font)


def _fitted(image: Array, width: int, height: int) -> Image.Image:
    """The picture scaled to the largest size within ``width`` x ``height``."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text with as many characters cut off its end as needed to be no wider than ``width``."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
