"""A report of a run as one HTML file that can be sent to anyone: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .curves import line_chart, read_metrics
from .image_file import encode_image, write_atomically
from .report_style import STYLE

__all__ = ["write_report"]

Array = np.ndarray[Any, Any]

_MAX_PICTURE_WIDTH = 1400
_MOST_COMPONENTS = 6  # single losses drawn beside the total
_CHARTED = ("AP", "AP50", "AP75", "mIoU", "PQ", "top1")  # of the evaluation results


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    facts: Mapping[str, object],
    metrics_file: str | os.PathLike[str] | None = None,
    results: Mapping[str, Any] | None = None,
    per_class: Sequence[Mapping[str, object]] = (),
    pictures: Sequence[tuple[str, Array]] = (),
    environment: Mapping[str, object] | None = None,
    subtitle: str = "",
) -> Path:
    """Write the report; parts for which nothing is given are left out.

    Args:
        path: the HTML file, replaced atomically.
        title: the heading.
        facts: what was run: config, model, parameters, iterations, time, machine ...
        metrics_file: a metrics.json; losses, evaluation results and learning rate are drawn from it.
        results: evaluation results, ``{"bbox": {"AP": 55.2, "AP50": ...}}``, also with a level of dataset
            names above. Entries of single classes (``AP-cat``) are left to ``per_class``.
        per_class: one mapping a class, column -> text or number; the first column is the name. Columns whose
            name starts with ``AP`` are taken to be between 0 and 100 and get a bar.
        pictures: (caption, uint8 RGB array (height, width, 3)), for example from
            :func:`~drivetrain.visualization.side_by_side`.
        environment: versions and hardware.
        subtitle: a line under the heading.

    Returns:
        The path.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    tables = _flat_results(results or {})
    series = read_metrics(metrics_file) if metrics_file is not None else {}
    parts = [
        _header(title, subtitle, tables),
        _section("Run", _facts(facts)),
        _section("Results", _results_table(tables) + _class_table(per_class)),
        _section("Training", _charts(series)),
        _section("Pictures", _pictures(pictures)),
        _section("Environment", _facts(environment or {})),
        "<footer>Written by Drivetrain.</footer>",
    ]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(part for part in parts if part)}</main>\n</body>\n</html>\n"
    )
    write_atomically(path, page.encode("utf-8", errors="replace"))
    return path


def _text(value: object) -> str:
    """Anything as escaped text; floats with two decimals, those that are not numbers as a dash."""
    if isinstance(value, (float, np.floating)):
        return f"{value:.2f}" if math.isfinite(value) else "–"
    return escape(str(value))


def _section(heading: str, content: str) -> str:
    return f"<section><h2>{heading}</h2>{content}</section>\n" if content else ""


def _flat_results(results: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, float]]:
    """Name of dataset and task -> metric -> value, without single classes."""
    flat: dict[str, dict[str, float]] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update(_flat_results(value, f"{prefix} · {name}" if prefix else str(name)))
        elif isinstance(value, (int, float, np.number)) and "-" not in str(name):
            flat.setdefault(prefix, {})[str(name)] = float(value)
    return flat


def _header(title: str, subtitle: str, tables: Mapping[str, Mapping[str, float]]) -> str:
    """Heading and the main figures of the first task."""
    tiles = ""
    for task, metrics in list(tables.items())[:1]:
        finite = [(name, value) for name, value in metrics.items() if math.isfinite(value)]
        tiles = "".join(
            f'<div class="tile{" main" if number == 0 else ""}"><b>{_text(value)}</b>'
            f"<span>{_text(f'{task} {name}'.strip())}</span></div>"
            for number, (name, value) in enumerate(finite[:4])
        )
    below = f'<p class="subtitle">{_text(subtitle)}</p>' if subtitle else ""
    shown = f'<div class="tiles">{tiles}</div>' if tiles else ""
    return f"<header><h1>{_text(title)}</h1>{below}{shown}</header>\n"


def _facts(facts: Mapping[str, object]) -> str:
    rows = "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in facts.items())
    return f'<div class="card"><dl>{rows}</dl></div>' if rows else ""


def _results_table(tables: Mapping[str, Mapping[str, float]]) -> str:
    """One row per task, one column per metric."""
    columns = list(dict.fromkeys(name for metrics in tables.values() for name in metrics))
    rows = [
        [_cell(task or "all", header=True), *(_cell(metrics.get(name, "")) for name in columns)]
        for task, metrics in tables.items()
    ]
    return _table(["", *columns], rows)


def _class_table(per_class: Sequence[Mapping[str, object]]) -> str:
    """One row per class."""
    columns = list(dict.fromkeys(name for row in per_class for name in row))
    rows = [
        [_cell(row.get(name, ""), header=number == 0, bar=name.startswith("AP")) for number, name in enumerate(columns)]
        for row in per_class
    ]
    return _table(columns, rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object, *, header: bool = False, bar: bool = False) -> str:
    if header:
        return f"<th>{_text(value)}</th>"
    if bar and isinstance(value, (int, float, np.number)) and math.isfinite(value):
        return f'<td class="bar" style="--share:{min(max(float(value), 0.0), 100.0):.1f}%">{_text(value)}</td>'
    return f"<td>{_text(value)}</td>"


def _charts(series: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Losses, evaluation results and learning rate, as far as they are there."""
    losses = [name for name in series if "loss" in name and name != "total_loss"]
    total = ["total_loss"] if "total_loss" in series else []
    results = [name for name in series if "/" in name and name.rsplit("/", 1)[-1] in _CHARTED]
    charts = (
        line_chart({name: series[name] for name in [*total, *losses[:_MOST_COMPONENTS]]}, label="Losses"),
        line_chart({name: series[name] for name in sorted(results)}, label="Evaluation"),
        line_chart({name: series[name] for name in ("lr",) if name in series}, label="Learning rate"),
    )
    shown = "".join(charts)
    return f'<div class="charts">{shown}</div>' if shown else ""


def _pictures(pictures: Sequence[tuple[str, Array]]) -> str:
    """Every picture within the page; one that is clicked fills the window."""
    figures = "".join(
        f'<figure><label><input type="checkbox"><img src="{_data_uri(image)}" alt="{_text(caption)}"></label>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
        for caption, image in pictures
    )
    return f'<div class="pictures">{figures}</div>' if figures else ""


def _data_uri(image: Array) -> str:
    """The picture as a data URI, scaled down to 1,400 pixels of width."""
    if image.shape[1] > _MAX_PICTURE_WIDTH:
        height = max(1, round(image.shape[0] * _MAX_PICTURE_WIDTH / image.shape[1]))
        scaled = Image.fromarray(np.ascontiguousarray(image)).resize(
            (_MAX_PICTURE_WIDTH, height), Image.Resampling.LANCZOS
        )
        image = np.asarray(scaled)
    return "data:image/jpeg;base64," + base64.b64encode(encode_image(image, "JPEG")).decode("ascii")
