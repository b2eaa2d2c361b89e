"""Images for datasets that tests write, and small datasets for the writers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.sources import find_source, read_source
from drivetrain.data.formats.synthetic import make_synthetic, make_synthetic_panoptic

Draw = Callable[..., Path]


@pytest.fixture
def draw() -> Draw:
    """Writes a grey image of some width and height; its folders are made."""

    def write(path: Path, width: int = 20, height: int = 10, **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), 128, dtype=np.uint8)).save(path, **options)
        return path

    return write


@pytest.fixture
def shapes_read(tmp_path: Path) -> ReadDataset:
    """Three drawn images with boxes, masks and keypoints, read."""
    made = make_synthetic(tmp_path / "shapes", train=3, val=1, size=(64, 48), seed=4)
    report = DefectReport("shapes")
    read = read_source(find_source(made.train_json), report)
    assert read is not None and not report
    return read


@pytest.fixture
def panoptic_read(tmp_path: Path) -> ReadDataset:
    """Three drawn images with panoptic segments, read."""
    made = make_synthetic_panoptic(tmp_path / "panoptic", train=3, val=1, size=(64, 48), seed=4)
    report = DefectReport("panoptic")
    read = read_source(find_source(made.train_json), report)
    assert read is not None and not report
    return read
