from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.cli.data_report import inspect_source, print_inspection
from drivetrain.data.formats.defects import Defect, DefectReport, Severity
from drivetrain.data.formats.sources import Source, find_source
from drivetrain.data.formats.synthetic import make_synthetic, make_synthetic_panoptic, make_synthetic_segmentation
from drivetrain.data.inspection import ClassRow, Inspection


def test_files_are_opened_unless_it_shall_be_quick(tmp_path: Path) -> None:
    made = make_synthetic(tmp_path, train=3, val=1, size=(32, 32))
    image = Path(made.train_images) / "000000.jpg"
    (Path(made.train_images) / "000001.jpg").write_bytes(image.read_bytes())
    Image.new("RGB", (9, 9)).save(Path(made.train_images) / "000002.jpg")
    source = find_source(made.train_json)
    report = DefectReport("x")
    read, found = inspect_source(source, report)
    assert read is not None and found is not None and len(found.repeated_images) == 1
    assert report.counts == {"size of image": 1}
    report = DefectReport("x")
    _, found = inspect_source(source, report, quick=True)
    assert found is not None and not found.repeated_images and not report


def test_pixels_of_maps_are_checked(tmp_path: Path) -> None:
    maps = make_synthetic_segmentation(tmp_path / "maps", train=2, val=1, size=(32, 32))
    Image.fromarray(np.full((32, 32), 9, dtype=np.uint8)).save(Path(maps.train_labels) / "000000.png")
    report = DefectReport("x")
    inspect_source(find_source(tmp_path / "maps"), report)
    assert report.counts == {"label out of range": 1}
    (tmp_path / "maps" / "classes.txt").unlink()
    Image.new("RGB", (32, 32)).save(Path(maps.train_labels) / "000001.png")
    inspect_source(find_source(tmp_path / "maps"), report := DefectReport("x"))
    assert report.counts == {"unreadable label map": 1}
    panoptic = make_synthetic_panoptic(tmp_path / "pan", train=2, val=1, size=(32, 32))
    Image.new("RGB", (32, 32), (99, 0, 0)).save(Path(panoptic.train_panoptic) / "000000.png")
    inspect_source(find_source(panoptic.train_json), report)
    assert report.counts["unknown segment"] == 1 and report.counts["segment without pixels"] >= 2
    report = DefectReport("x")
    inspect_source(find_source(panoptic.train_json), report, quick=True)
    _, found = inspect_source(find_source(tmp_path / "maps"), report, quick=True)
    assert not report and found is not None and found.label_maps == 0


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    report = DefectReport("x")
    source = Source("coco", str(tmp_path / "a.json"), str(tmp_path))
    assert inspect_source(source, report) == (None, None) and report.has_errors


def test_everything_is_printed_and_nothing_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    found = Inspection(
        12_345,
        objects=7,
        crowds=1,
        masks=2,
        keypoints=3,
        classes=[ClassRow("cat\x1b[2J", 6, 5, 0.875), *(ClassRow(f"c{i}", 0, 0, 0) for i in range(70))],
        box_sides=[1, 2, 3, 4, 5, 6, 7],
        box_shares=[0.01] * 7,
        aspect_ratios=[1.25] * 7,
        box_scales={"small": 1, "medium": 2, "large": 4},
        image_sizes=[((640, 480), 3), ((1, 2), 1), ((1, 3), 1), ((1, 4), 1), ((1, 5), 1), ((1, 6), 1)],
        more_sizes=4,
        empty=5,
        empty_examples=["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
        repeated_objects=2,
        repeated_images=[["x\n.jpg", "y.jpg"], ["p.jpg", "q.jpg", "r.jpg", "s.jpg"], *([["z.jpg"] * 2] * 5)],
    )
    report = DefectReport("a.json")
    report.add(Defect("odd", "annotations[3]", "is \x1b[31modd", Severity.DROPPED))
    print_inspection(Source("yolo", "data.yaml", split="val"), found, report)
    out = capsys.readouterr().out
    for text in (
        "data.yaml (yolo, split val)",
        "12,345 images: 7 objects, 2 with a mask, 3 with keypoints, 1 as a crowd",
        "640 x 480 (3), 1 x 2 (1), 1 x 3 (1), 1 x 4 (1), 1 x 5 (1), and 5 others",
        "5 images without an object: a.jpg, b.jpg, c.jpg, ...",
        "with the class and box of another one of their image: 2 objects",
        "the same image 2 times: x\\n.jpg, y.jpg\n",
        "the same image 4 times: p.jpg, q.jpg, r.jpg, ...\n",
        "and 2 more groups of equal images",
        r"cat\x1b[2J",
        "87.5%",
        "1 small, 2 medium, 4 large",
        "and 11 more classes",
        r"annotations[3] is \x1b[31modd",
    ):
        assert text in out
    assert "\x1b" not in out
    print_inspection(Source("coco", "a.json"), None, DefectReport("x"))
    assert capsys.readouterr().out == "a.json (coco)\nno defects\n"
