"""Drawing pictures of circles, squares and triangles on cluttered ground, with the exact mask of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .contours import mask_polygons

__all__ = ["SHAPE_NAMES", "Picture", "Shape", "draw_picture"]

Array = np.ndarray[Any, Any]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

SHAPE_NAMES = ("circle", "square", "triangle")

MIN_RADIUS, MAX_RADIUS = 12.0, 32.0
MAX_TURN = math.radians(10)
MOST_SHAPES = 4
LEAST_VISIBLE = 0.8  # the part of a shape that later ones leave uncovered
LEAST_CONTRAST = 100.0  # distance of a fill colour from the ground behind it, in RGB levels
_SCALE = 4  # drawn this many times larger, then averaged down, for smooth edges
_TRIES = 12


@dataclass
class Shape:
    """One drawn shape.

    Attributes:
        label: its place in ``SHAPE_NAMES``.
        mask: bool (height, width), the pixels where it is seen; connected and without holes.
    """

    label: int
    mask: BoolArray


@dataclass
class Picture:
    """A drawn picture: uint8 RGB pixels (height, width, 3) and the shapes in it."""

    pixels: Array
    shapes: list[Shape]


def draw_picture(rng: np.random.Generator, width: int, height: int, most: int = MOST_SHAPES) -> Picture:
    """Draw a picture with one to ``most`` shapes.

    Class, colour, size (radius 12 to 32 pixels, at most 0.3 of the shorter side), turn and place are drawn
    independently. Later shapes may cover up to a fifth of earlier ones.

    Args:
        rng: all choices come from it.
        width: of the picture, in pixels, 32 or more.
        height: of the picture, in pixels, 32 or more.
        most: how many shapes there are at most, 1 or more.
    """
    canvas = _ground(rng, width, height)
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(1, most + 1))):
        for _ in range(_TRIES):
            label = int(rng.integers(len(SHAPE_NAMES)))
            coverage, window = _shape_coverage(rng, label, width, height)
            mask = np.zeros((height, width), dtype=bool)
            mask[window] = coverage >= 0.5
            if _place(shapes, Shape(label, mask)):
                _paint(rng, canvas[window], coverage)
                break
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0.0, 8.0))
    return Picture(np.clip(canvas, 0, 255).astype(np.uint8), shapes)


def _place(shapes: list[Shape], new: Shape) -> bool:
    """Put ``new`` over ``shapes`` unless it hides too much of one or cuts it in pieces; whether it was put."""
    if len(mask_polygons(new.mask)) != 1:
        return False
    remaining = []
    for shape in shapes:
        visible = shape.mask & ~new.mask
        count, before = int(visible.sum()), int(shape.mask.sum())
        if count < before and (count < LEAST_VISIBLE * before or len(mask_polygons(visible)) != 1):
            return False
        remaining.append(visible)
    for shape, visible in zip(shapes, remaining, strict=True):
        shape.mask = visible
    shapes.append(new)
    return True


def _ground(rng: np.random.Generator, width: int, height: int) -> Array:
    """Float32 (height, width, 3): a slope of colours, soft patches, and distractors that are no shape of any class."""
    across, down = np.linspace(-1, 1, 6)[:, np.newaxis], np.linspace(-1, 1, 6)[:, np.newaxis, np.newaxis]
    colour = rng.uniform(40, 215) + rng.normal(0, 15, size=3)
    slope = across * rng.normal(0, 12, size=3) + down * rng.normal(0, 12, size=3)
    patches = rng.normal(0, rng.uniform(1, 10), size=(6, 6, 3))
    grid = np.clip(colour + slope + patches, 0, 255).astype(np.uint8)
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 5))):  # lines, straight and bent
        points = [
            tuple(p) for p in (rng.uniform(-0.1, 1.1, size=(int(rng.integers(2, 4)), 2)) * (width, height)).tolist()
        ]
        draw.line(points, fill=_colour(rng), width=int(rng.integers(1, 4)))
    for _ in range(int(rng.integers(0, 7))):  # specks, too small to be a shape
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.7, 2.5)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_colour(rng))
    for _ in range(int(rng.integers(0, 2))):  # open arcs
        x, y, r, turn = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(6, 24), rng.uniform(0, 360)
        draw.arc((x - r, y - r, x + r, y + r), turn, turn + rng.uniform(40, 200), fill=_colour(rng), width=2)
    return np.asarray(image).astype(np.float32)


def _shape_coverage(rng: np.random.Generator, label: int, width: int, height: int) -> tuple[Array, tuple[slice, slice]]:
    """How much of each pixel a new shape covers, float32 0 to 1, and the rows and columns of the picture it is for."""
    largest = min(MAX_RADIUS, 0.3 * min(width, height))
    radius = float(rng.uniform(min(MIN_RADIUS, 0.8 * largest), largest))
    x, y = float(rng.uniform(radius, width - radius)), float(rng.uniform(radius, height - radius))
    turn = float(rng.uniform(-MAX_TURN, MAX_TURN))
    left, top = max(0, math.floor(x - radius) - 1), max(0, math.floor(y - radius) - 1)
    right, bottom = min(width, math.ceil(x + radius) + 1), min(height, math.ceil(y + radius) + 1)
    stencil = Image.new("L", ((right - left) * _SCALE, (bottom - top) * _SCALE))
    draw = ImageDraw.Draw(stencil)
    cx, cy, r = (x - left) * _SCALE, (y - top) * _SCALE, radius * _SCALE
    if SHAPE_NAMES[label] == "circle":
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
    else:
        draw.polygon([(cx + r * px, cy + r * py) for px, py in _corners(label, turn)], fill=255)
    coverage = np.asarray(stencil.reduce(_SCALE), dtype=np.float32) / 255
    return coverage, (slice(top, bottom), slice(left, right))


def _corners(label: int, turn: float) -> list[tuple[float, float]]:
    """The corners of a square or triangle in a circle of radius 1 about the origin, upright when not turned."""
    count, first = (4, math.pi / 4) if SHAPE_NAMES[label] == "square" else (3, -math.pi / 2)
    angles = [first + turn + 2 * math.pi * i / count for i in range(count)]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def _paint(rng: np.random.Generator, canvas: Array, coverage: Array) -> None:
    """Colour the shape onto its part of the canvas: a slightly sloping fill that stands out from what is behind."""
    inside = coverage >= 0.5
    behind = canvas[inside].mean(axis=0)
    for _ in range(_TRIES):
        colour = rng.uniform(0, 255, size=3)
        if np.linalg.norm(colour - behind) >= LEAST_CONTRAST:
            break
    else:
        colour = np.where(behind > 127, 0.0, 255.0)
    down, across = rng.normal(0, 8, size=2)
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in coverage.shape)
    fill = (down * rows[:, np.newaxis] + across * columns)[:, :, np.newaxis] + colour
    canvas += coverage[:, :, np.newaxis] * (fill - canvas)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, size=3).tolist()
    return red, green, blue
