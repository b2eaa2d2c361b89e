"""The picture that a :class:`~drivetrain.compat.visualizer.Visualizer` draws on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from drivetrain.visualization import draw_instances, mask_outline, save_image
from drivetrain.visualization.labels import Label, draw_label, load_font, printable, writable

from .visualizer_masks import bounding_boxes

__all__ = ["Color", "VisImage", "as_rgb"]

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

_LETTERS = {
    "b": (0, 0, 255),
    "g": (0, 128, 0),
    "r": (255, 0, 0),
    "c": (0, 191, 191),
    "m": (191, 0, 191),
    "y": (191, 191, 0),
    "k": (0, 0, 0),
    "w": (255, 255, 255),
}
_DASHES = {"--": (4.0, 2.0), ":": (1.0, 1.5), "-.": (4.0, 1.5), "dashed": (4.0, 2.0), "dotted": (1.0, 1.5)}


class VisImage:
    """A picture, ``scale`` times as large as the image that it starts from; all its methods take the image's pixels.

    Attributes:
        img: the image, uint8 (height, width, 3), RGB.
        scale: of the picture against the image.
        width: of the image.
        height: of the image.
    """

    def __init__(self, img: Any, scale: float = 1.0) -> None:
        """Start from an image (height, width, 3), RGB, 0 to 255.

        Raises:
            ValueError: it has another shape, or the scale is not above 0.
        """
        if not scale > 0:
            raise ValueError(f"scale must be above 0, but {scale!r} was received")
        self.img = _as_image(img)
        self.scale = float(scale)
        self.height, self.width = self.img.shape[:2]
        size = max(1, int(self.width * scale + 0.01)), max(1, int(self.height * scale + 0.01))
        self._size = size
        self.reset_image(self.img)

    def reset_image(self, img: Any) -> None:
        """Replace everything by an image of the size of the first."""
        image = _as_image(img)
        if image.shape != self.img.shape:
            raise ValueError(f"an image of shape {self.img.shape} is replaced here, but {image.shape} was received")
        kind = Image.Resampling.LANCZOS if self.scale < 1 else Image.Resampling.BICUBIC
        picture = Image.fromarray(np.ascontiguousarray(image))
        self._pixels: Array = np.array(picture if picture.size == self._size else picture.resize(self._size, kind))

    def get_image(self) -> Array:
        """The picture, uint8 (H, W, 3), RGB: of the image's size times ``scale``, rounded down."""
        picture: Array = self._pixels.copy()
        return picture

    def save(self, filepath: str | os.PathLike[str]) -> None:
        """Write the picture as ``.png``, ``.jpg`` or ``.jpeg``; OutputError when it cannot be written."""
        save_image(filepath, self._pixels)

    @property
    def line_width(self) -> float:
        """Of lines, in pixels of the picture."""
        return max(1.5, 0.004 * self._side)

    def fill(self, mask: Array, color: Color, edge: Color | None, alpha: float) -> None:
        """Mix a colour into the pixels of ``mask``, bool (height, width), and draw its outline in ``edge`` if given."""
        whole = self._resized(mask)
        outline = mask_outline(whole) if edge is not None else None
        left, top, right, bottom = bounding_boxes([whole])[0].astype(int)
        part, inside = self._pixels[top:bottom, left:right], whole[top:bottom, left:right]
        part[inside] = ((1 - alpha) * part[inside] + alpha * np.array(color)).round()
        if outline is not None:
            self._pixels[outline] = edge

    def blend(self, weights: Array, color: Color) -> None:
        """Mix a colour in by a weight for each pixel, 0 to 1, (height, width)."""
        resized = Image.fromarray(weights.astype(np.float32)).resize(self._size, Image.Resampling.BILINEAR)
        share = np.asarray(resized).clip(0, 1)[..., None]
        self._pixels = ((1 - share) * self._pixels + share * np.array(color)).round().astype(np.uint8)

    def instances(self, boxes: Array, texts: Sequence[str], colors: Sequence[Color], **options: Any) -> None:
        """Boxes (N, 4), XYXY, with a text each, by :func:`drivetrain.visualization.draw_instances` and its options."""
        points = options.pop("keypoints", None)
        if points is not None:
            points = np.concatenate((points[..., :2] * self._factors, points[..., 2:]), axis=2)
        scaled = boxes * np.tile(self._factors, 2)
        self._pixels = draw_instances(
            self._pixels, boxes=scaled, labels=texts, colors=colors, keypoints=points, **options
        )

    def line(
        self, points: Points, color: Color, *, alpha: float = 1.0, style: str = "-", width: float | None = None
    ) -> None:
        """Join the points, XY, by lines: ``style`` is one of ``-  --  -.  :``, ``width`` in pixels of the image."""
        thick = self.line_width if width is None else width * self.scale
        scaled = [tuple(np.array(point) * self._factors) for point in points]
        ink = (*color, round(255 * alpha))
        with self._drawing() as draw:
            if style in _DASHES:
                for start, end in _dashes(scaled, *(part * max(thick, 2) for part in _DASHES[style])):
                    draw.line((start, end), fill=ink, width=max(1, round(thick)))
            else:
                draw.line(scaled, fill=ink, width=max(1, round(thick)), joint="curve")

    def dot(self, center: tuple[float, float], radius: float, color: Color) -> None:
        """A filled circle."""
        x, y = np.array(center) * self._factors
        with self._drawing() as draw:
            draw.circle((x, y), radius * self.scale, fill=(*color, 255))

    def text(
        self,
        text: str,
        position: tuple[float, float],
        color: Color,
        *,
        size: float | None = None,
        align: str = "center",
        rotation: float = 0,
    ) -> None:
        """A line of text on a ground of ``color``, its top at ``position``, turned around its middle by degrees.

        Args:
            text: one line; of a long one the middle is left out.
            position: X, Y of the left end, the middle or the right end, by ``align``.
            color: of the ground; the text is black or white.
            size: of the font, in pixels of the image.
            align: ``left``, ``center`` or ``right``.
            rotation: counterclockwise.
        """
        pixels = max(11.0, 0.023 * self._side) if size is None else size * self.scale
        font = load_font(max(pixels, 4.0), [text])
        line = writable(printable(text, most=80), font)
        padding = max(2.0, font.size * 0.22)
        width, height = font.getlength(line) + 2 * padding, font.size * 1.12 + padding
        patch = Image.new("RGBA", (int(width) + 2, int(height) + 2), (*color, 0))
        draw_label(ImageDraw.Draw(patch), Label(line, (0.0, 0.0, width, height), color), font)
        x, y = np.array(position) * self._factors
        x += {"left": 0.5, "center": 0.0, "right": -0.5}.get(align, 0.0) * width
        turned = patch.rotate(rotation, expand=True, resample=Image.Resampling.BICUBIC) if rotation else patch
        place = round(x - turned.width / 2), round(y + height / 2 - turned.height / 2)
        left, top = (_clamped(*sizes) for sizes in zip(place, self._size, turned.size, strict=True))
        picture = Image.fromarray(self._pixels)
        picture.paste(turned, (left, top), turned)
        self._pixels = np.array(picture)

    @property
    def _side(self) -> float:
        """Of a square as large as the picture."""
        return math.sqrt(self._size[0] * self._size[1])

    @property
    def _factors(self) -> Array:
        """From pixels of the image to those of the picture, in X and Y."""
        return np.array([self._size[0] / self.width, self._size[1] / self.height])

    def _resized(self, mask: Array) -> Array:
        if mask.shape != (self.height, self.width):
            raise ValueError(f"a mask for this image is {self.height}x{self.width}, but {mask.shape} was received")
        if (self.width, self.height) == self._size:
            return mask.astype(bool)
        soft = Image.fromarray(mask.astype(np.uint8) * 255).resize(self._size, Image.Resampling.BILINEAR)
        return np.asarray(soft) >= 128

    @contextmanager
    def _drawing(self) -> Iterator[ImageDraw.ImageDraw]:
        picture = Image.fromarray(self._pixels)
        yield ImageDraw.Draw(picture, "RGBA")
        self._pixels = np.array(picture)


def as_rgb(color: Any) -> Color:
    """R, G, B in 0 to 255 of a colour as matplotlib takes it.

    Args:
        color: three or four numbers, all in 0 to 1, or in 0 to 255 when one is above 1; or a name, ``#rrggbb``, or one
            of the letters b, g, r, c, m, y, k, w.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(color, str):
        name = color.removeprefix("tab:")
        return _LETTERS[name] if name in _LETTERS else ImageColor.getrgb(name)[:3]
    values = np.asarray(color, dtype=float).ravel()
    if values.shape not in ((3,), (4,)) or not (np.isfinite(values) & (values >= 0) & (values <= 255)).all():
        raise ValueError(f"a colour is a name or three numbers of 0 to 1, but {color!r} was received")
    rgb = values[:3] if values.max() > 1 else values[:3] * 255
    return (round(float(rgb[0])), round(float(rgb[1])), round(float(rgb[2])))


def _as_image(img: Any) -> Array:
    array = np.asarray(img.detach().cpu() if hasattr(img, "detach") else img)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(f"an image is an array (height, width, 3), RGB, but one of {array.shape} was received")
    return array if array.dtype == np.uint8 else array.clip(0, 255).astype(np.uint8)


def _dashes(points: Sequence[Any], on: float, off: float) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Pieces of ``on`` pixels with gaps of ``off`` along each of the lines between neighbouring points."""
    for start, end in pairwise(points):
        a, b = np.array(start), np.array(end)
        length = float(np.hypot(*(b - a)))
        for at in np.arange(0, length, on + off):
            yield tuple(a + (b - a) * at / length), tuple(a + (b - a) * min(at + on, length) / length)


def _clamped(start: int, size: int, length: int) -> int:
    """A place along one side for something of this length that keeps it in the picture where it fits."""
    return min(max(start, 0), max(size - length, 0))
