from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.data.formats.entry import ReadDataset
from drivetrain.data.formats.label_maps import read_panoptic_map
from drivetrain.data.formats.writing import (
    Losses,
    annotation_mask,
    box_xywh,
    class_names,
    file_names,
    largest_outline,
    put_images,
    segments_as_annotations,
)
from drivetrain.errors import DatasetError, OutputError
from drivetrain.structures import BoxMode, bitmask_to_rle, rle_to_bitmask

SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]
LARGE = [0, 0, 9, 0, 9, 9, 0, 9]


def dataset(*names: str) -> ReadDataset:
    return ReadDataset([{"file_name": f"/images/{name}"} for name in names], "/images")


def test_boxes_in_either_notation() -> None:
    assert box_xywh({"bbox": [1, 2, 5, 7], "bbox_mode": BoxMode.XYXY_ABS}) == [1, 2, 4, 5]
    assert box_xywh({"bbox": [1, 2, 5, 7], "bbox_mode": BoxMode.XYWH_ABS}) == [1, 2, 5, 7]


def test_masks_and_outlines() -> None:
    polygons = {"segmentation": [SQUARE, LARGE]}
    assert annotation_mask({}, 10, 10) is None and largest_outline({}, 10, 10) == ([], False)
    mask = annotation_mask(polygons, 10, 10)
    assert mask is not None and mask.sum() == 81
    assert largest_outline(polygons, 10, 10) == (LARGE, True)
    assert largest_outline({"segmentation": [SQUARE]}, 10, 10) == (SQUARE, False)
    pixels = np.zeros((10, 10), dtype=bool)
    pixels[1:4, 1:4] = True
    runs = {"segmentation": bitmask_to_rle(pixels)}
    outline, more = largest_outline(runs, 10, 10)
    again = annotation_mask({"segmentation": [outline]}, 10, 10)
    assert again is not None and np.array_equal(again, pixels) and not more
    pixels[6, 6] = True
    assert largest_outline({"segmentation": bitmask_to_rle(pixels)}, 10, 10) == (outline, True)


def test_names_are_those_below_the_common_folder() -> None:
    assert file_names(dataset("a.jpg", "b/c.jpg")) == ["a.jpg", "b/c.jpg"]
    assert file_names(dataset("images/train/a.jpg", "images/train/b/c.jpg")) == ["a.jpg", "b/c.jpg"]
    assert file_names(dataset("images/a.jpg", "images_2/b.jpg")) == ["images/a.jpg", "images_2/b.jpg"]
    assert file_names(dataset("x/b/c.jpg", "x/a.jpg"), flat=True) == ["b_c.jpg", "a.jpg"]
    assert file_names(dataset()) == []


def test_no_two_names_have_one_stem() -> None:
    assert file_names(dataset("a.jpg", "a.png", "b.jpg")) == ["a.jpg", "a_png.png", "b.jpg"]
    assert file_names(dataset("x/b_c.jpg", "x/b/c.png"), flat=True) == ["b_c.jpg", "b_c_png.png"]
    with pytest.raises(OutputError, match=r"'a\.jpg' and 'a\.jpg' of '/images' would have one name"):
        file_names(dataset("a.jpg", "a.jpg", "a.jpg"))


def test_images_are_put_under_their_names(shapes_read: ReadDataset, tmp_path: Path) -> None:
    put_images(shapes_read, ["x.jpg", "s/y.jpg", "z.jpg"], tmp_path / "out", "copy")
    assert (tmp_path / "out" / "s" / "y.jpg").read_bytes() == Path(shapes_read.records[1]["file_name"]).read_bytes()
    put_images(shapes_read, ["x.jpg"] * 3, tmp_path / "nothing", "none")
    assert not any((tmp_path / "nothing").iterdir())


def test_class_names() -> None:
    assert class_names(ReadDataset([], "r", {"thing_classes": ["a"], "stuff_classes": ["b"]})) == ["a"]
    assert class_names(ReadDataset([], "r", {"stuff_classes": ["b"]})) == ["b"]
    with pytest.raises(DatasetError, match="the classes of 'r' have no names; give them with --classes"):
        class_names(ReadDataset([], "r"))


def test_things_of_a_panoptic_record_are_annotations(panoptic_read: ReadDataset) -> None:
    losses = Losses()
    for record in panoptic_read.records:
        made = segments_as_annotations(record, losses)
        things = [s for s in record["segments_info"] if s["isthing"]]
        ids = read_panoptic_map(record["pan_seg_file_name"])
        assert [(a["category_id"], a["bbox"], a["area"]) for a in made] == [
            (s["category_id"], s["bbox"], s["area"]) for s in things
        ]
        for annotation, segment in zip(made, things, strict=True):
            assert np.array_equal(rle_to_bitmask(annotation["segmentation"]), ids == segment["id"])
    assert losses == {"segments of stuff": 3}
    plain: dict[str, Any] = {"annotations": [{"x": 1}]}
    assert segments_as_annotations(plain, losses) == [{"x": 1}]
