"""Every dataset format through ``drivetrain data inspect | convert | split``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drivetrain.cli.main import main
from drivetrain.data.formats.synthetic import (
    SyntheticDataset,
    make_synthetic,
    make_synthetic_classification,
    make_synthetic_panoptic,
    make_synthetic_segmentation,
)

FORMATS = ("coco", "coco_panoptic", "voc", "yolo", "sem_seg", "folder")
IMAGES = 10


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Format -> where a dataset of ten training images lies."""
    root = tmp_path_factory.mktemp("formats")
    many: Any = {"train": IMAGES, "val": 1, "size": (48, 40), "seed": 1}
    coco: SyntheticDataset = make_synthetic(root / "coco", **many)
    panoptic = make_synthetic_panoptic(root / "panoptic", **many)
    make_synthetic_segmentation(root / "maps", **many)
    classes = make_synthetic_classification(root / "classes", **many)
    for name in ("voc", "yolo"):
        assert main(["data", "convert", f"train={coco.train_json}", "--to", name, "--output", str(root / name)]) == 0
    return {
        "coco": Path(coco.train_json),
        "coco_panoptic": Path(panoptic.train_json),
        "voc": root / "voc",
        "yolo": root / "yolo",
        "sem_seg": root / "maps",
        "folder": Path(classes.train),
    }


def inspected(source: Path, folder: Path, *options: str) -> tuple[int, Counter[str]]:
    """The number of images, and how many images each class is in, as ``drivetrain data inspect`` tells them."""
    report = folder / "report.json"
    assert main(["data", "inspect", str(source), "--json", str(report), *options]) == 0
    found = json.loads(report.read_text())["found"]
    return found["images"], Counter({row["name"]: row["images"] for row in found["classes"]})


@pytest.mark.parametrize("kind", FORMATS)
def test_looked_into_cut_and_written_again(kind: str, sources: dict[str, Path], tmp_path: Path) -> None:
    sheet, parts, again = tmp_path / "sheet.png", tmp_path / "parts", tmp_path / "again"
    images, classes = inspected(sources[kind], tmp_path, "--output", str(sheet), "--samples", "4")
    assert images == IMAGES and sum(classes.values()) >= IMAGES
    with Image.open(sheet) as drawn:
        assert min(drawn.size) > 480  # four pictures, two by two

    assert main(["data", "split", str(sources[kind]), "--fractions", "0.7", "0.3", "--output", str(parts)]) == 0
    options = ["--images", str(sources[kind].parent / "images" / "train")] if kind == "coco" else []
    cut = [inspected(parts, tmp_path, "--split", split, *options) for split in ("train", "val")]
    assert [count for count, _ in cut] == [7, 3]
    assert cut[0][1] + cut[1][1] == classes

    assert main(["data", "convert", str(sources[kind]), "--to", kind, "--output", str(again)]) == 0
    assert inspected(again, tmp_path) == (images, classes)
