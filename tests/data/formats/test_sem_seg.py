from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.defects import DefectReport
from drivetrain.data.formats.label_maps import write_label_map
from drivetrain.data.formats.sem_seg import (
    check_label_maps,
    label_map_end,
    load_sem_seg,
    read_sem_seg,
    register_sem_seg,
    spread_sample,
)
from drivetrain.data.records import stored
from drivetrain.errors import DatasetError

Draw = Callable[..., Path]


def draw_map(path: Path, *labels: int, width: int = 20, height: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label_map(path, np.resize(np.array(labels, dtype=np.uint8), (height, width)))


@pytest.fixture
def folders(tmp_path: Path, draw: Draw) -> tuple[Path, Path]:
    """Label maps and images of two pairs."""
    labels, images = tmp_path / "labels", tmp_path / "images"
    for stem in ("b", "a/x"):
        draw(images / f"{stem}.jpg")
        draw_map(labels / f"{stem}.png", 0, 1, 2, 255)
    return labels, images


def test_records(folders: tuple[Path, Path]) -> None:
    labels, images = folders
    records = load_sem_seg(labels, images)
    assert records == [
        {
            "file_name": str(images / f"{stem}.jpg"),
            "sem_seg_file_name": str(labels / f"{stem}.png"),
            "image_id": stem,
            "height": 10,
            "width": 20,
        }
        for stem in ("a/x", "b")
    ]
    assert list(stored(records)) == records


def test_ends_of_names(tmp_path: Path, draw: Draw) -> None:
    draw(tmp_path / "img" / "aachen_0_leftImg8bit.png")
    draw_map(tmp_path / "gt" / "aachen_0_gtFine_labelTrainIds.png", 1)
    draw_map(tmp_path / "gt" / "aachen_0_gtFine_instanceIds.png", 1)
    ends = "_gtFine_labelTrainIds.png", "_leftImg8bit.png"
    (record,) = load_sem_seg(tmp_path / "gt", tmp_path / "img", *ends)
    assert record["image_id"] == "aachen_0" and record["sem_seg_file_name"].endswith("labelTrainIds.png")
    draw(tmp_path / "img" / "z.JPEG")
    draw_map(tmp_path / "gt" / "z.png", 1)
    assert [r["image_id"] for r in load_sem_seg(tmp_path / "gt", tmp_path / "img", "png", ["jpg", "jpeg"])] == ["z"]
    with pytest.raises(DatasetError, match="names end with a text as 'png'"):
        load_sem_seg(tmp_path / "gt", tmp_path / "img", "")


def test_what_has_no_counterpart_is_left_out(folders: tuple[Path, Path], draw: Draw) -> None:
    labels, images = folders
    draw(images / "c.jpg")
    draw_map(labels / "d.png", 0)
    report = DefectReport("x")
    read = read_sem_seg(labels, images, report)
    assert read is not None and [r["image_id"] for r in read.records] == ["a/x", "b"]
    assert report.counts == {"image without label map": 1, "label map without image": 1}
    assert "'c.jpg' has no counterpart" in report.to_text() and "'d.png'" in report.to_text()


def test_labels_out_of_range_are_told_before_training(folders: tuple[Path, Path]) -> None:
    labels, images = folders
    register_sem_seg("seg_x", {"stuff_classes": ["a", "b", "c"]}, labels, images)
    metadata = MetadataCatalog.get("seg_x")
    assert (metadata.gt_root, metadata.image_root, metadata.evaluator_type, metadata.ignore_label) == (
        str(labels),
        str(images),
        "sem_seg",
        255,
    )
    assert len(DatasetCatalog.get("seg_x")) == 2
    draw_map(labels / "b.png", 0, 3, 200)
    with pytest.raises(
        DatasetError, match=r"b\.png' has the labels 3, 200, but there are 3 classes \(0 to 2\), and 255"
    ):
        DatasetCatalog.get("seg_x")
    register_sem_seg("seg_y", {"stuff_classes": list("abcd"), "ignore_label": 200}, labels, images)
    with pytest.raises(DatasetError, match=r"a/x\.png' has the labels 255"):
        DatasetCatalog.get("seg_y")


def test_sizes_and_files_that_are_wrong(folders: tuple[Path, Path], tmp_path: Path, draw: Draw) -> None:
    labels, images = folders
    draw_map(labels / "b.png", 0, width=10, height=20)
    (labels / "a" / "x.png").write_text("no image")
    (labels / "b.png").rename(labels / "c.png")
    read_sem_seg(labels, images, report := DefectReport("x"))
    assert report.counts["no image"] == 1 and "there are label maps" not in report.to_text()
    (labels / "c.png").rename(labels / "b.png")
    report = DefectReport("x")
    read_sem_seg(labels, images, report)
    assert report.counts == {"size of label map": 1, "unreadable image": 1}
    assert "b.png' has 10 x 20 pixels (width x height), but its image has 20 x 10" in report.to_text()
    (labels / "b.png").unlink()
    (labels / "b.png").symlink_to(draw(tmp_path / "secret.png"))
    with pytest.raises(DatasetError, match="leads outside the image folder through a link"):
        load_sem_seg(labels, images)


def test_folders_that_are_missing_or_do_not_fit(folders: tuple[Path, Path], tmp_path: Path) -> None:
    labels, images = folders
    with pytest.raises(DatasetError, match="has 2 errors"):
        load_sem_seg(tmp_path / "none", tmp_path / "nothing")
    with pytest.raises(DatasetError, match="no name in .* is that of a usable image and of a label map"):
        load_sem_seg(labels, images, "png", "bmp")


def test_at_most_so_many_maps_are_read(folders: tuple[Path, Path]) -> None:
    labels, images = folders
    records = load_sem_seg(labels, images)
    report = DefectReport("x")
    check_label_maps(records * 50, 1, 255, report, 7)
    assert len(report) == 7
    check_label_maps([{"sem_seg_file_name": str(labels / "none.png")}], 1, 255, report, 7)
    assert report.counts == {"label out of range": 7, "unreadable label map": 1}


def test_a_sample_is_spread_over_all() -> None:
    items = [{"i": i} for i in range(10)]
    assert [item["i"] for item in spread_sample(items, 3)] == [0, 3, 6]
    assert spread_sample(items, 10) == items and spread_sample(items, 99) == items
    assert spread_sample(items, 0) == []


def test_the_end_of_label_maps_names_is_found(tmp_path: Path, draw: Draw) -> None:
    images, labels = tmp_path / "images", tmp_path / "masks"
    for i in range(12):
        draw(images / "sub" / f"{i}.JPG")
        draw_map(labels / "sub" / f"{i}_mask.png", 0)
        draw_map(labels / "sub" / f"{i}_mask_old.png", 0)
    draw_map(labels / "sub" / "0.png", 0)
    ends = "png", ("jpg", "png")
    assert label_map_end(labels, images, *ends) == "_mask.png"
    assert label_map_end(images, labels, *ends) == "" == label_map_end(tmp_path / "none", images, *ends)
    report = DefectReport("x")
    (labels / "sub" / "0.png").unlink()
    assert read_sem_seg(labels, images, report) is None
    assert "there are label maps that end with '_mask.png' (gt_ext, label_ext)" in report.to_text()


def test_images_and_label_maps_in_one_folder(tmp_path: Path, draw: Draw) -> None:
    for i in range(3):
        draw(tmp_path / f"{i}.jpg")
        draw_map(tmp_path / f"{i}_mask.png", 0)
    ends = "png", ("jpg", "png")
    assert label_map_end(tmp_path, tmp_path, *ends) == "_mask.png"
    records = load_sem_seg(tmp_path, tmp_path, "_mask.png", ends[1])
    assert [Path(r["file_name"]).name for r in records] == ["0.jpg", "1.jpg", "2.jpg"]
    report = DefectReport("x")
    assert read_sem_seg(tmp_path, tmp_path, report, *ends) is None and report.counts["no image"] == 1


def test_maps_of_unknown_classes_need_only_be_readable(folders: tuple[Path, Path]) -> None:
    labels, images = folders
    draw_map(labels / "b.png", 0, 77)
    read = read_sem_seg(labels, images, report := DefectReport("x"))
    assert read is not None
    check_label_maps(read.records, None, 255, report, 10)
    assert not report
    Image.new("RGB", (20, 10)).save(labels / "b.png")
    check_label_maps(read.records, None, 255, report, 10)
    assert report.counts == {"unreadable label map": 1}


def test_white_masks_are_told(folders: tuple[Path, Path]) -> None:
    labels, images = folders
    read = read_sem_seg(labels, images, DefectReport("x"))
    assert read is not None
    for values, ignored, told in (((0, 255), 255, 1), ((0, 255), 9, 0), ((0, 1, 255), 255, 0), ((0,), 255, 0)):
        for name in ("b.png", "a/x.png"):
            draw_map(labels / name, *values)
        check_label_maps(read.records, None, ignored, report := DefectReport("x"), 10)
        assert report.counts.get("one label", 0) == told and not report.has_errors
    draw_map(labels / "b.png", 0, 255)
    check_label_maps(read.records, 2, 255, report, 10)
    assert "hold 0 and 255 alone, and 255 is ignored: there is nothing to learn; write another" in report.to_text()
