"""The report: complete, escaped, self-contained."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.errors import OutputError
from drivetrain.visualization.report import write_report

_EVIL = "<script>alert('x')</script>\"&"
_VOID = {"meta", "img", "input", "br", "line", "circle", "polyline"}


class _Checker(HTMLParser):
    """Collects tags, attributes and text, and fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(k, v or "") for k, v in attrs]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data}|"


def _check(path: Path) -> _Checker:
    checker = _Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert checker.open == []
    return checker


def _full(path: Path, tmp_path: Path, **changes: Any) -> Path:
    metrics = tmp_path / "metrics.json"
    metrics.write_text(
        "".join(
            f'{{"iteration": {i}, "total_loss": {9 - i}, "loss_cls": 1, "lr": 0.1, "bbox/AP": {i}}}\n' for i in range(9)
        )
    )
    arguments: dict[str, Any] = {
        "title": "Cells",
        "subtitle": "below",
        "facts": {"Model": "fcos_tiny", "Iterations": 3000},
        "metrics_file": metrics,
        "results": {"bbox": {"AP": 57.314, "AP50": float("nan"), "AP75": 61.0, "AP-RBC": 12.34}},
        "per_class": [{"class": "RBC", "AP": 59.1, "boxes": 12}, {"class": "WBC", "AP": float("nan")}],
        "pictures": [("one", np.full((20, 30, 3), 200, np.uint8))],
        "environment": {"torch": "2.15"},
    }
    return write_report(path, **{**arguments, **changes})


def test_everything_is_there(tmp_path: Path) -> None:
    page = _check(_full(tmp_path / "new" / "report.html", tmp_path))
    for part in ("Cells", "below", "fcos_tiny", "3000", "57.31", "61.00", "RBC", "59.10", "WBC", "2.15", "one"):
        assert f"{part}|" in page.text
    for heading in ("Run", "Results", "Training", "Pictures", "Environment", "Losses", "Evaluation", "Learning rate"):
        assert f"{heading}|" in page.text
    assert "12.34" not in page.text  # single classes have their own table
    assert "nan" not in page.text.lower()
    assert page.tags.count("svg") == 3
    assert page.tags.count("polyline") == 4
    assert ("style", "--share:59.1%") in page.attributes


def test_nothing_is_loaded_and_no_script_runs(tmp_path: Path) -> None:
    path = _full(tmp_path / "report.html", tmp_path)
    page = _check(path)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(v.startswith("data:image/jpeg;base64,") for k, v in page.attributes if k in ("src", "href", "srcset"))
    assert not any(k.startswith("on") for k, _ in page.attributes)
    assert "http" not in path.read_text(encoding="utf-8")


def test_all_text_is_escaped(tmp_path: Path) -> None:
    plain = _check(_full(tmp_path / "plain.html", tmp_path))
    metrics = tmp_path / "evil.json"
    metrics.write_text('{"iteration": 1, "loss<script>\\"": 1.0, "<script>/AP": 2.0}\n')
    page = _check(
        _full(
            tmp_path / "report.html",
            tmp_path,
            title=_EVIL,
            subtitle=_EVIL,
            facts={_EVIL: _EVIL},
            metrics_file=metrics,
            results={_EVIL: {_EVIL.replace("-", ""): 1.0}},
            per_class=[{_EVIL: _EVIL, "AP": _EVIL}],
            pictures=[(_EVIL, np.zeros((4, 4, 3), np.uint8))],
            environment={_EVIL: _EVIL},
        )
    )
    assert set(page.tags) <= set(plain.tags)
    assert page.text.count(_EVIL) >= 9
    assert ("alt", _EVIL) in page.attributes


def test_pictures_are_those_given_and_wide_ones_are_scaled(tmp_path: Path) -> None:
    wide = np.full((100, 2800, 3), 50, np.uint8)
    page = _check(
        _full(tmp_path / "r.html", tmp_path, pictures=[("a", np.full((20, 30, 3), 200, np.uint8)), ("b", wide)])
    )
    sources = [v.split(",", 1)[1] for k, v in page.attributes if k == "src"]
    images = [Image.open(io.BytesIO(base64.b64decode(source))) for source in sources]
    assert [image.size for image in images] == [(30, 20), (1400, 50)]
    assert np.abs(np.array(images[0]).astype(int) - 200).max() <= 2


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", title="Bare", facts={}, metrics_file=tmp_path / "missing.json")
    page = _check(path)
    assert "h2" not in page.tags
    assert "Bare|" in page.text


def test_results_of_several_datasets(tmp_path: Path) -> None:
    results = {"val": {"bbox": {"AP": 1.25}, "segm": {"AP": 2.25}}, "test": {"bbox": {"AP": 3.25}}}
    text = _check(_full(tmp_path / "r.html", tmp_path, results=results)).text
    assert re.search(r"val · bbox\|1\.25\|.*val · segm\|2\.25\|.*test · bbox\|3\.25\|", text, re.DOTALL)


def test_an_old_report_stays_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "r.html").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(tmp_path / "r.html", title="x", facts={})
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
