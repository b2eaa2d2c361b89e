"""What is drawn, pixel by pixel where it matters."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.structures import BitMasks, Boxes, Keypoints, bitmask_to_rle
from drivetrain.visualization.drawing import draw_instances, mask_outline
from drivetrain.visualization.palette import class_color


def _blank(height: int = 120, width: int = 160) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def test_the_frame_lies_on_the_box_edge_and_its_inside_is_untouched() -> None:
    image = _blank()
    drawn = draw_instances(image, boxes=[[40, 30, 100, 90]], classes=[2], labels=[""], line_width=2)
    color = list(class_color(2))
    # A box edge at 40 lies between the pixels 39 and 40; a line of width 2 covers both.
    for x in (39, 40, 99, 100):
        assert drawn[60, x].tolist() == color
    for y in (29, 30, 89, 90):
        assert drawn[y, 70].tolist() == color
    assert (drawn[31:89, 41:99] == 128).all()
    assert (drawn[:28] == 128).all()
    assert (drawn[:, 102:] == 128).all()
    assert (image == 128).all()  # a copy was drawn on


def test_nothing_drawn_is_the_image_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for boxes in ([], torch.zeros(0, 4), np.zeros((0, 4)), Boxes(torch.zeros(0, 4))):
        drawn = draw_instances(image, boxes=boxes, classes=[], scores=[], masks=np.zeros((0, 50, 70), bool))
        assert np.array_equal(drawn, image)
        assert drawn is not image


def test_label_with_name_and_score_appears_above_the_box() -> None:
    image = _blank(200, 300)
    without = draw_instances(image, boxes=[[50, 100, 250, 180]], classes=[0], labels=[""])
    named = draw_instances(image, boxes=[[50, 100, 250, 180]], classes=[0], class_names=["cat"])
    scored = draw_instances(image, boxes=[[50, 100, 250, 180]], classes=[0], class_names=["cat"], scores=[0.987])
    changed = [np.argwhere((picture != without).any(axis=2)) for picture in (named, scored)]
    for where in changed:
        assert where[:, 0].min() > 70
        assert where[:, 0].max() <= 101
        assert where[:, 1].min() >= 48
    assert changed[1][:, 1].max() > changed[0][:, 1].max() + 10  # "cat 99%" is longer


def test_a_class_has_one_colour_in_every_picture() -> None:
    for index in (0, 7, 200):
        drawn = draw_instances(_blank(), boxes=[[40, 30, 100, 90]] * 2, classes=[index, index], labels=["", ""])
        assert drawn[60, 40].tolist() == list(class_color(index))


@settings(max_examples=40)
@given(st.lists(st.tuples(*[st.floats(-1e7, 1e7) | st.just(float("nan"))] * 4), max_size=4))
def test_any_boxes_can_be_drawn(boxes: list[tuple[float, ...]]) -> None:
    drawn = draw_instances(_blank(), boxes=boxes, classes=[0] * len(boxes), class_names=["名 \x00" + "x" * 99])
    assert drawn.shape == (120, 160, 3)
    assert drawn.dtype == np.uint8


def test_boxes_partly_outside() -> None:
    drawn = draw_instances(_blank(), boxes=[[-50, -50, 80, 60], [500, 500, 600, 600]], classes=[0, 1], line_width=2)
    assert drawn[20, 80].tolist() == list(class_color(0))
    assert (drawn[70:] == 128).all()  # the second is not there, nor its label


def test_masks_are_tinted_and_outlined() -> None:
    mask = np.zeros((1, 120, 160), dtype=bool)
    mask[0, 20:80, 30:90] = True
    forms = (mask, torch.from_numpy(mask), BitMasks(torch.from_numpy(mask)), [bitmask_to_rle(mask[0])], iter(mask))
    for masks in forms:
        drawn = draw_instances(_blank(), boxes=[[0, 0, 0, 0]], classes=[3], labels=[""], masks=masks)
        color = np.array(class_color(3))
        assert np.abs(drawn[50, 60] - (0.55 * 128 + 0.45 * color)).max() <= 1
        assert drawn[20, 60].tolist() == color.tolist()
        assert drawn[50, 100].tolist() == [128, 128, 128]


def test_masks_are_taken_one_by_one() -> None:
    taken: list[weakref.ref[Any]] = []

    def masks() -> Iterator[Any]:
        for _ in range(5):
            assert sum(reference() is not None for reference in taken) <= 2  # those that zip still holds
            mask = np.ones((120, 160), dtype=bool)
            taken.append(weakref.ref(mask))
            yield mask
            del mask

    draw_instances(_blank(), boxes=[[0, 0, 9, 9]] * 5, masks=masks())
    assert len(taken) == 5


def test_an_outline_is_the_border_inside_the_mask() -> None:
    mask = np.zeros((6, 7), dtype=bool)
    mask[1:5, 2:] = True
    assert np.argwhere(mask & ~mask_outline(mask)).tolist() == [[r, c] for r in (2, 3) for c in (3, 4, 5, 6)]
    assert not (mask_outline(mask) & ~mask).any()


def test_keypoints_and_skeleton_leave_out_what_is_not_labelled() -> None:
    points = [[[20, 20, 2], [100, 20, 1], [60, 100, 0]]]
    skeleton = [(0, 1), (1, 2), (0, 9)]
    for keypoints in (points, torch.tensor(points), Keypoints(torch.tensor(points))):
        drawn = draw_instances(
            _blank(), boxes=[[0, 0, 0, 0]], classes=[1], labels=[""], keypoints=keypoints, skeleton=skeleton
        )
        color = list(class_color(1))
        assert drawn[20, 20].tolist() == drawn[20, 100].tolist() == drawn[20, 60].tolist() == color
        assert (drawn[40:] == 128).all()
    two = draw_instances(_blank(), boxes=[[0, 0, 0, 0]], labels=[""], keypoints=np.array(points)[..., :2])
    assert two[100, 60].tolist() == [160, 160, 160]


def test_small_images_are_enlarged_with_everything_on_them() -> None:
    mask = np.zeros((1, 30, 40), dtype=bool)
    mask[0, 10:20, 10:20] = True
    drawn = draw_instances(
        _blank(30, 40),
        boxes=[[10, 10, 20, 20]],
        classes=[0],
        labels=[""],
        masks=mask,
        keypoints=[[[30, 15, 2]]],
        min_side=300,
        line_width=2,
    )
    assert drawn.shape == (300, 400, 3)
    color = np.array(class_color(0))
    assert drawn[150, 100].tolist() == color.tolist()
    assert drawn[150, 300].tolist() == color.tolist()
    assert np.abs(drawn[150, 150] - (0.55 * 128 + 0.45 * color)).max() <= 1
    assert draw_instances(_blank(30, 40), boxes=[], min_side=20).shape == (30, 40, 3)


def test_own_colours_and_labels() -> None:
    drawn = draw_instances(_blank(), boxes=[[40, 30, 100, 90]], colors=[(1, 2, 3)], labels=["x"])
    assert drawn[60, 40].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": np.zeros((5, 5), np.uint8)}, r"uint8 \(5, 5\) was received"),
        ({"image": np.zeros((5, 5, 3))}, r"float64 \(5, 5, 3\) was received"),
        ({"classes": [1, 2]}, r"classes must have the shape \(1,\)"),
        ({"scores": [[1.0]]}, r"scores must have the shape \(1,\)"),
        ({"masks": np.zeros((1, 5, 5))}, r"mask 0 must have the shape \(120, 160\) here, but \(5, 5\)"),
        ({"masks": [{"size": [5, 5], "counts": [25]}]}, r"mask 0 must have the shape \(120, 160\) here, but \(5, 5\)"),
        ({"masks": np.zeros((2, 120, 160))}, "2 masks were given for 1 boxes"),
        ({"keypoints": np.zeros((2, 3, 3))}, r"keypoints must have the shape \(1, 3, 3\)"),
        ({"labels": ["a", "b"]}, "2 labels were given for 1 boxes"),
        ({"colors": []}, "0 colors were given for 1 boxes"),
    ],
)
def test_wrong_shapes_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_instances(**{"image": _blank(), "boxes": [[0, 0, 9, 9]], **given})


@pytest.mark.parametrize("width", [1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("height", [1, 2, 4, 6, 7])
def test_the_smallest_boxes_are_drawn(width: int, height: int) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    drawn = draw_instances(image, boxes=np.array([[10.0, 10.0, 10.0 + width, 10.0 + height]]), classes=[0])
    assert drawn.shape == image.shape and drawn.any()
