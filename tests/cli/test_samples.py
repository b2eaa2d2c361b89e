from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.cli.samples import _shrunk, sample_sheet
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.sources import find_source, read_source
from drivetrain.data.formats.synthetic import (
    make_synthetic,
    make_synthetic_classification,
    make_synthetic_panoptic,
    make_synthetic_segmentation,
)
from drivetrain.errors import DatasetError

SMALL: dict[str, Any] = {"train": 5, "val": 1, "size": (64, 48)}


def read(path: str | Path) -> ReadDataset:
    found = read_source(find_source(path), DefectReport("x"))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["coco", "panoptic", "sem_seg", "folder"])
def test_annotations_of_every_kind_are_drawn(tmp_path: Path, kind: str) -> None:
    path = {
        "coco": lambda: make_synthetic(tmp_path, **SMALL).train_json,
        "panoptic": lambda: make_synthetic_panoptic(tmp_path, **SMALL).train_json,
        "sem_seg": lambda: Path(make_synthetic_segmentation(tmp_path, **SMALL).train_labels).parents[1],
        "folder": lambda: make_synthetic_classification(tmp_path, **SMALL).train,
    }[kind]()
    dataset = read(path)
    drawn = sample_sheet(dataset, 4, seed=1)
    assert drawn.dtype == np.uint8 and drawn.shape[1] > 2 * 480
    assert np.array_equal(drawn, sample_sheet(dataset, 4, seed=1))
    assert not np.array_equal(drawn, sample_sheet(dataset, 4, seed=2))
    bare = [{k: r[k] for k in ("file_name", "height", "width")} for r in dataset.records]
    assert not np.array_equal(drawn, sample_sheet(ReadDataset(bare, dataset.image_root), 4, seed=1))


def test_images_that_cannot_be_shown_are_passed_over(tmp_path: Path) -> None:
    dataset = read(make_synthetic(tmp_path, **SMALL).train_json)
    dataset.records[0]["height"] = 5
    Path(dataset.records[1]["file_name"]).unlink()
    three = sample_sheet(dataset, 16, seed=0)
    assert np.array_equal(three, sample_sheet(ReadDataset(dataset.records[2:], "", dataset.metadata), 16, seed=0))
    with pytest.raises(DatasetError, match="no image of '.*' can be shown"):
        sample_sheet(ReadDataset(dataset.records[:2], dataset.image_root, dataset.metadata), 16, seed=0)


def test_large_pictures_are_shrunk_and_others_kept() -> None:
    large, small = np.zeros((500, 3000, 3), dtype=np.uint8), np.zeros((900, 800, 3), dtype=np.uint8)
    assert _shrunk(large).shape == (160, 960, 3) and _shrunk(small) is small
