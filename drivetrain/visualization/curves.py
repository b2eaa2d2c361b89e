"""Line charts as inline SVG, and the series they show, read from metrics.json."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

__all__ = ["line_chart", "read_metrics"]

Series = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 640.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 12.0, 34.0
_MOST_POINTS = 500
_COLORS = 8  # how many colours the style sheet knows


def read_metrics(path: str | os.PathLike[str]) -> dict[str, list[tuple[int, float]]]:
    """The series in a metrics.json: name -> (iteration, value), in the file's order.

    Values that are not finite numbers (``null``) and damaged lines are passed over. A file that does not
    exist gives no series.
    """
    series: dict[str, list[tuple[int, float]]] = {}
    if not Path(path).exists():
        return series
    with open(path, "rb") as file:
        for line in file:
            try:
                content = json.loads(line)
                iteration = int(content.pop("iteration"))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            for name, value in content.items():
                if isinstance(value, (int, float)) and math.isfinite(value):
                    series.setdefault(name, []).append((iteration, float(value)))
    return series


def line_chart(series: Mapping[str, Series], *, label: str, bottom: float | None = 0.0) -> str:
    """One chart with a legend, as HTML that needs no script and no other file.

    The first series is drawn strongest. Its colours come from the CSS variables ``--line-0`` to ``--line-7``,
    so that they fit a light and a dark page. The vertical axis ends at the 99th percentile: a spike in the
    first steps does not flatten the rest.

    Args:
        series: name -> points (x, y), x ascending; finite.
        label: what the chart shows, for screen readers and as its title.
        bottom: where the vertical axis begins at the latest; None: at the smallest value.

    Returns:
        A ``<figure>``, or ``""`` when there is no point.
    """
    series = {name: _thinned(points) for name, points in series.items() if points}
    if not series:
        return ""
    axes = _Axes(series, bottom)
    lines = "".join(_line(name, points, number, axes) for number, (name, points) in enumerate(series.items()))
    legend = "".join(
        f'<span><i style="background:var(--line-{number % _COLORS})"></i>{escape(name)} '
        f"<b>{_number(points[-1][1])}</b></span>"
        for number, (name, points) in enumerate(series.items())
    )
    return (
        f'<figure class="chart"><figcaption>{escape(label)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(label)}">'
        f"{axes.svg()}{lines}</svg>"
        f'<div class="legend">{legend}</div></figure>'
    )


class _Axes:
    """From data to SVG coordinates, and the grid."""

    def __init__(self, series: Mapping[str, Series], bottom: float | None) -> None:
        xs = [x for points in series.values() for x, _ in points]
        ys = sorted(y for points in series.values() for _, y in points)
        high = ys[min(len(ys) - 1, math.ceil(0.99 * len(ys)))]
        low = ys[0] if bottom is None else min(ys[0], bottom)
        self.y_ticks = _ticks(low, high if high > low else low + 1.0, 5)
        self._x0, self._x1 = min(xs), max(xs)
        if self._x1 == self._x0:
            self._x1 += 1.0
        self.x_ticks = [x for x in _ticks(self._x0, self._x1, 6) if self._x0 <= x <= self._x1]
        self._y0, self._y1 = min(low, self.y_ticks[0]), max(self.y_ticks[-1], high)

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return _LEFT + (value - self._x0) / (self._x1 - self._x0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Vertical place of a value; those above the axis are drawn at its end."""
        share = min((value - self._y0) / max(self._y1 - self._y0, 1e-12), 1.0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def svg(self) -> str:
        """Grid lines and their numbers."""
        parts = []
        for tick in self.y_ticks:
            y = self.y(tick)
            parts.append(
                f'<line class="grid" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{_LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
            )
        place = f'y="{_HEIGHT - _BOTTOM + 20:g}" text-anchor="middle"'
        parts += [f'<text x="{self.x(tick):.1f}" {place}>{_number(tick)}</text>' for tick in self.x_ticks]
        return "".join(parts)


def _line(name: str, points: Series, number: int, axes: _Axes) -> str:
    color = f"var(--line-{number % _COLORS})"
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
    width = 2.4 if number == 0 else 1.6
    drawn = f'<polyline points="{path}" style="stroke:{color};stroke-width:{width}"/>'
    if len(points) > 40:
        return drawn
    dots = "".join(
        f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3" style="fill:{color}">'
        f"<title>{escape(name)}: {_number(y)} at iteration {_number(x)}</title></circle>"
        for x, y in points
    )
    return drawn + dots


def _thinned(points: Series) -> Series:
    """At most 500 points; of each group its smallest and largest value, so that spikes stay."""
    if len(points) <= _MOST_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        group = points[start : start + size]
        extremes = {min(group, key=lambda p: p[1]), max(group, key=lambda p: p[1])}
        kept += sorted(extremes)
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers from about ``low`` to at least ``high``, about ``count`` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * i, 12) for i in range(first, last + 1)]


def _number(value: float) -> str:
    """Four significant digits, large ones with a thin space between thousands."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:.4g}"
