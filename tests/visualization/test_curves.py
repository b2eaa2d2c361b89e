"""Charts, and reading metrics.json for them."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.visualization.curves import line_chart, read_metrics


def _points(chart: str) -> list[list[tuple[float, float]]]:
    """The points of each line, in SVG units."""
    return [
        [tuple(float(v) for v in pair.split(",")) for pair in found.split()]  # type: ignore[misc]
        for found in re.findall(r'<polyline points="([^"]*)"', chart)
    ]


def test_metrics_are_read_by_name_and_damage_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(
        '{"iteration": 1, "a": 0.5, "b": null, "c": "text"}\nnot json\n[1]\n{"a": 2}\n'
        '{"iteration": 3, "a": 1.5, "b": NaN, "d": 2}\n{"iteration": 5, "a'
    )
    assert read_metrics(path) == {"a": [(1, 0.5), (3, 1.5)], "d": [(3, 2.0)]}
    assert read_metrics(tmp_path / "none.json") == {}


def test_a_chart_is_well_formed_and_escaped() -> None:
    chart = line_chart({'<b>"&': [(0, 1.0), (1, 2.0)]}, label="<script>")
    ElementTree.fromstring(chart)
    assert "<script>" not in chart
    assert "<b>&quot;" not in chart
    assert "&lt;b&gt;&quot;&amp;" in chart


def test_larger_values_are_higher_and_later_ones_further_right() -> None:
    chart = line_chart({"a": [(0, 0.0), (10, 5.0), (20, 10.0)]}, label="x")
    [[start, middle, end]] = _points(chart)
    assert start[0] < middle[0] < end[0]
    assert start[1] > middle[1] > end[1]
    assert middle[0] == pytest.approx((start[0] + end[0]) / 2, abs=0.1)
    assert middle[1] == pytest.approx((start[1] + end[1]) / 2, abs=0.1)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.floats(-1e12, 1e12, allow_subnormal=False)),
        min_size=1,
        max_size=30,
        unique_by=lambda p: p[0],
    ).map(sorted)
)
def test_every_point_is_inside_the_chart(points: list[tuple[int, float]]) -> None:
    for line in _points(line_chart({"a": points}, label="x")):
        for x, y in line:
            assert 0 <= x <= 640
            assert 0 <= y <= 300


def test_a_spike_does_not_flatten_the_rest() -> None:
    chart = line_chart({"loss": [(0, 1e6)] + [(i, 1.0) for i in range(1, 300)]}, label="x")
    [line] = _points(chart)
    assert line[0][1] == pytest.approx(12, abs=0.1)  # at the upper end
    assert line[100][1] < 150  # 1.0 is in the upper half


def test_long_series_are_thinned_and_keep_their_extremes() -> None:
    points = [(i, math.sin(i / 50)) for i in range(20_000)]
    points[7777] = (7777, -5.0)
    chart = line_chart({"a": points}, label="x", bottom=None)
    [line] = _points(chart)
    assert len(line) <= 510
    lowest = max(line, key=lambda p: p[1])
    assert lowest[0] == pytest.approx(52 + 7777 / 19_999 * (640 - 64), abs=1)


def test_no_points_no_chart() -> None:
    assert line_chart({}, label="x") == ""
    assert line_chart({"a": []}, label="x") == ""
