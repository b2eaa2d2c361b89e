"""From annotations to targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.data.annotations import Targets, boxes_xyxy
from drivetrain.data.transforms import CropTransform, FlipTransform, NoOpTransform, ResizeTransform, TransformList
from drivetrain.errors import DatasetError
from drivetrain.structures import BitMasks, BoxMode, PolygonMasks

SAME = NoOpTransform((20, 30))


def annotation(box: list[float], category: int = 0, **more: Any) -> dict[str, Any]:
    return {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category, **more}


def test_boxes_of_mixed_modes() -> None:
    rows = [annotation([1, 2, 5, 6]), annotation([1, 2, 4, 4]) | {"bbox_mode": BoxMode.XYWH_ABS}]
    assert boxes_xyxy(rows).tolist() == [[1, 2, 5, 6], [1, 2, 5, 6]]
    assert boxes_xyxy([]).shape == (0, 4)


def test_boxes_are_transformed_clipped_and_filtered() -> None:
    """A crop of rows 5..15, columns 10..30, then a stretch by 2: one box inside, one cut, one outside, one a line."""
    transform = TransformList([CropTransform((20, 30), 5, 10, 10, 20), ResizeTransform((10, 20), (20, 40))], (20, 30))
    rows = [
        annotation([12, 6, 14, 8], 3),
        annotation([0, 0, 15, 10], 1),
        annotation([0, 0, 9, 4], 2),
        annotation([12, 6, 12, 9], 4),
        annotation([12, 6, 14, 8], 5, iscrowd=1),
    ]
    targets = Targets()(rows, transform)
    assert targets.image_size == (20, 40)
    assert targets.gt_classes.tolist() == [3, 1] and targets.gt_classes.dtype == torch.int64
    assert targets.gt_boxes.tensor.tolist() == [[4, 2, 8, 6], [0, 0, 10, 10]]
    assert targets.gt_boxes.tensor.dtype == torch.float32


def test_no_annotations() -> None:
    for maker in (Targets(), Targets(mask_format="polygon", keypoints=True), Targets(mask_format="bitmask")):
        assert len(maker([], SAME)) == 0
    assert Targets(mask_format="bitmask")([], SAME).gt_masks.tensor.shape == (0, 20, 30)


SQUARE = [4.0, 4.0, 10.0, 4.0, 10.0, 8.0, 4.0, 8.0]
RLE = {"size": [20, 30], "counts": [4 * 20 + 4, *([4, 16] * 5), 4, 20 * 30 - (9 * 20 + 8)]}  # the same square


def test_polygon_masks_follow_and_those_cut_away_go() -> None:
    crop = CropTransform((20, 30), 0, 0, 6, 20)
    rows = [
        annotation([4, 4, 10, 8], segmentation=[SQUARE]),
        annotation(
            [4, 5, 10, 12], segmentation=[[4.0, 10.0, 10.0, 10.0, 10.0, 12.0]]
        ),  # its box reaches in, it does not
    ]
    targets = Targets(mask_format="polygon")(rows, crop)
    assert isinstance(targets.gt_masks, PolygonMasks) and len(targets) == 1
    points = targets.gt_masks.polygons[0][0].reshape(-1, 2)
    assert points.min(axis=0).tolist() == [4, 4] and points.max(axis=0).tolist() == [10, 6]


def test_bitmasks_of_polygons_and_run_lengths_are_the_same() -> None:
    flip = FlipTransform((20, 30))
    rows = [annotation([4, 4, 10, 8], segmentation=[SQUARE]), annotation([4, 4, 10, 8], segmentation=RLE)]
    masks = Targets(mask_format="bitmask")(rows, flip).gt_masks
    assert isinstance(masks, BitMasks)
    assert masks.tensor[0, 4:8, 20:26].all() and masks.tensor[0].sum() == 24
    assert torch.equal(masks.tensor[0], masks.tensor[1])


def test_boxes_from_masks() -> None:
    rows = [annotation([0, 0, 30, 20], segmentation=[SQUARE])]
    targets = Targets(mask_format="polygon", boxes_from_masks=True)(rows, SAME)
    assert targets.gt_boxes.tensor.tolist() == [[4, 4, 10, 8]]


def test_keypoints() -> None:
    points = [4, 4, 2, 28, 6, 1, 0, 0, 0]
    targets = Targets(keypoints=True, flip_indices=[1, 0, 2])(
        [annotation([4, 4, 10, 8], keypoints=points)], FlipTransform((20, 30))
    )
    assert targets.gt_keypoints.tensor.tolist() == [[[2, 6, 1], [26, 4, 2], [0, 0, 0]]]
    crop = CropTransform((20, 30), 0, 0, 20, 20)  # the second point is cut away
    targets = Targets(keypoints=True)([annotation([4, 4, 10, 8], keypoints=points)], crop)
    assert targets.gt_keypoints.tensor.tolist() == [[[4, 4, 2], [0, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("maker", "row", "message"),
    [
        (Targets(), {"bbox": [1, 2, 3], "bbox_mode": 0, "category_id": 0}, "'bbox' of 4 numbers"),
        (Targets(), {"bbox_mode": 0, "category_id": 0}, "KeyError: 'bbox'"),
        (Targets(), {"bbox": [1, 2, 3, 4], "category_id": 0}, "bbox_mode"),
        (Targets(mask_format="polygon"), annotation([1, 2, 3, 4]), "has no 'segmentation'"),
        (Targets(mask_format="polygon"), annotation([1, 2, 3, 4], segmentation=RLE), "MASK_FORMAT to 'bitmask'"),
        (Targets(mask_format="polygon"), annotation([1, 2, 3, 4], segmentation=[[1, 2, 3]]), "flat list of x, y pairs"),
        (
            Targets(mask_format="bitmask"),
            annotation([1, 2, 3, 4], segmentation={"size": [20, 30], "counts": "oooooooo0"}),
            "a run-length encoded mask is damaged",
        ),
        (
            Targets(mask_format="bitmask"),
            annotation([1, 2, 3, 4], segmentation={"size": [2, 2], "counts": [4]}),
            "2 x 2",
        ),
        (Targets(keypoints=True), annotation([1, 2, 3, 4]), "same number of 'keypoints'"),
        (
            Targets(keypoints=True, flip_indices=[0]),
            annotation([1, 2, 3, 4], keypoints=[1, 2, 2] * 2),
            "1 flip indices",
        ),
    ],
)
def test_bad_annotations(maker: Targets, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        maker([row], SAME)


def test_the_annotations_are_not_changed() -> None:
    row = annotation([4, 4, 10, 8], segmentation=[list(SQUARE)], keypoints=[4, 4, 2])
    before = repr(row)
    Targets(mask_format="polygon", keypoints=True, flip_indices=[0])([row], FlipTransform((20, 30)))
    assert repr(row) == before


def test_filtering_without_masks_is_about_boxes_alone() -> None:
    boxes = np.random.default_rng(0).uniform(0, 20, (50, 2))
    rows = [annotation([*b, *(b + 3)], i) for i, b in enumerate(boxes)]
    assert Targets()(rows, SAME).gt_classes.tolist() == list(range(50))
