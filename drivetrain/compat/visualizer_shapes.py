"""Single shapes on a picture: what a :class:`~drivetrain.compat.visualizer.Visualizer` draws by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drivetrain.visualization import class_color

from .visualizer_canvas import Color, VisImage, as_rgb
from .visualizer_masks import as_array, as_bitmaps, middle

__all__ = ["ShapeDrawer"]

Array = np.ndarray[Any, Any]


class ShapeDrawer:
    """Draws shapes, given in pixels of the image, on a picture that is ``scale`` times as large.

    Every method returns the picture. Colours are R, G, B in 0 to 1, or a name: see
    :func:`~drivetrain.compat.visualizer_canvas.as_rgb`.

    Attributes:
        img: the image, uint8 (height, width, 3), RGB.
        output: the picture.
    """

    def __init__(self, img_rgb: Any, scale: float = 1.0) -> None:
        """Start from an image (height, width, 3), RGB, 0 to 255; it is not changed."""
        self.output = VisImage(img_rgb, scale)
        self.img = self.output.img

    def get_output(self) -> VisImage:
        """The picture."""
        return self.output

    def draw_text(
        self,
        text: str,
        position: tuple[float, float],
        *,
        font_size: float | None = None,
        color: Any = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write a line of text on a ground of ``color``, its top at ``position`` (X, Y), turned by degrees.

        ``font_size`` is in pixels of the image, ``horizontal_alignment`` one of ``left``, ``center``, ``right``.
        """
        options: dict[str, Any] = {"size": font_size, "align": horizontal_alignment, "rotation": rotation}
        self.output.text(str(text), position, as_rgb(color), **options)
        return self.output

    def draw_box(
        self, box_coord: Sequence[float], alpha: float = 0.5, edge_color: Any = "g", line_style: str = "-"
    ) -> VisImage:
        """Draw the frame of a box, XYXY; ``line_style`` is ``-``, ``--``, ``-.`` or ``:``."""
        x0, y0, x1, y1 = (float(v) for v in box_coord)
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        self.output.line(corners, as_rgb(edge_color), alpha=alpha, style=line_style)
        return self.output

    def draw_rotated_box_with_label(
        self,
        rotated_box: Sequence[float],
        alpha: float = 0.5,
        edge_color: Any = "g",
        line_style: str = "-",
        label: str | None = None,
    ) -> VisImage:
        """Draw the frame of a box (centre X, Y, width, height, degrees counterclockwise), its text at the top left."""
        x, y, width, height, degrees = (float(v) for v in rotated_box)
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        corners = [
            (-width / 2, -height / 2),
            (width / 2, -height / 2),
            (width / 2, height / 2),
            (-width / 2, height / 2),
        ]
        turned = [(x + dx * cos + dy * sin, y - dx * sin + dy * cos) for dx, dy in corners]
        self.output.line([*turned, turned[0]], as_rgb(edge_color), alpha=max(alpha, 0.5), style=line_style)
        if label:
            upright = (degrees + 90) % 180 - 90
            self.draw_text(label, turned[0], color=edge_color, horizontal_alignment="left", rotation=upright)
        return self.output

    def draw_circle(self, circle_coord: tuple[float, float], color: Any, radius: float = 3) -> VisImage:
        """Draw a filled circle around X, Y; ``radius`` in pixels of the image."""
        self.output.dot((float(circle_coord[0]), float(circle_coord[1])), radius, as_rgb(color))
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: Any,
        linestyle: str = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Join points by lines; ``linewidth`` in pixels of the image."""
        points = [(float(x), float(y)) for x, y in zip(x_data, y_data, strict=True)]
        self.output.line(points, as_rgb(color), style=linestyle, width=linewidth)
        return self.output

    def draw_binary_mask(
        self,
        binary_mask: Any,
        color: Any = None,
        *,
        edge_color: Any = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: int = 10,
    ) -> VisImage:
        """Fill a mask.

        Args:
            binary_mask: (height, width), filled where it is above 0.
            color: by default the first of the class colours.
            edge_color: of the outline; by default ``color``.
            text: written in its middle.
            alpha: how thickly, 0 to 1.
            area_threshold: a mask with fewer pixels is left out.
        """
        (mask,) = self._bitmaps([as_array(binary_mask)])
        rgb = class_color(0) if color is None else as_rgb(color)
        if mask.sum() < max(area_threshold, 1):
            return self.output
        edge = rgb if edge_color is None else as_rgb(edge_color)
        self.output.fill(mask, rgb, edge, alpha)
        self._write_inside([mask], [text or ""], [rgb])
        return self.output

    def draw_soft_mask(
        self, soft_mask: Any, color: Any = None, *, text: str | None = None, alpha: float = 0.5
    ) -> VisImage:
        """Fill a mask whose pixels are 0 to 1 (height, width) as thickly as these say, times ``alpha``."""
        weights = as_array(soft_mask).astype(float)
        rgb = class_color(0) if color is None else as_rgb(color)
        self.output.blend(weights * alpha, rgb)
        if text and (weights > 0.5).any():
            self._write_inside([weights > 0.5], [text], [rgb])
        return self.output

    def draw_polygon(self, segment: Any, color: Any, edge_color: Any = None, alpha: float = 0.5) -> VisImage:
        """Fill a polygon (P, 2), X and Y; the outline has ``edge_color``, by default ``color``."""
        points = np.asarray(segment, dtype=float).reshape(-1, 2)
        (mask,) = self._bitmaps([[points.ravel()]])
        self.output.fill(mask, as_rgb(color), None, alpha)
        outline = [(float(x), float(y)) for x, y in (*points, points[0])]
        self.output.line(outline, as_rgb(color if edge_color is None else edge_color))
        return self.output

    def _bitmaps(self, masks: Any) -> list[Array]:
        return as_bitmaps(masks, self.output.height, self.output.width)

    def _write_inside(self, masks: Sequence[Array], texts: Sequence[str], colors: Sequence[Color]) -> None:
        """A text in the middle of each mask that has any pixel, where they hide each other least."""
        shown = [i for i, mask in enumerate(masks) if texts[i] and mask.any()]
        if shown:
            middles = np.array([middle(masks[i]) for i in shown])
            spots = np.concatenate((middles, middles + 1), axis=1)
            self.output.instances(spots, [texts[i] for i in shown], [colors[i] for i in shown], frames=False)
