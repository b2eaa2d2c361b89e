"""What a training shows at its end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.cli import report


def test_one_row_per_class() -> None:
    results = {"bbox": {"AP": 1.0, "AP-cat": 2.0, "AP-top-hat": 3.0}, "segm": {"AP-cat": 4.0}}
    assert report._per_class(results) == [
        {"class": "cat", "AP bbox": 2.0, "AP segm": 4.0},
        {"class": "top-hat", "AP bbox": 3.0},
    ]


def test_figures_in_both_scales(capsys: Any) -> None:
    report._print_results({"bbox": {"AP": 51.27, "AP50": 88.0, "AP-cat": 2.0}})
    assert capsys.readouterr().out.splitlines() == ["bbox AP = 51.3  (0.513)", "bbox AP50 = 88.0  (0.880)"]
    report._print_results(None)
    assert capsys.readouterr().out == ""


def test_the_page_stands_alone(trained: Path) -> None:
    page = (trained / "report.html").read_text()
    assert "fcos_tiny" in page and "circle" in page and re.search(r"\b62\d,\d{3}\b", page)
    assert page.count("data:image/") >= 4
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_pictures_are_the_validation_images_with_something_drawn(trained: Path, shapes: Any) -> None:
    for path in sorted((trained / "predictions").glob("*.jpg")):
        with Image.open(path) as drawn, Image.open(Path(shapes.val_images) / path.name) as plain:
            assert drawn.size[0] >= plain.size[0]
            assert np.asarray(drawn).std() > 0
