"""Objects keep their colours from frame to frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.compat.video_visualizer import VideoVisualizer
from drivetrain.compat.visualizer import ColorMode, VisImage, Visualizer
from drivetrain.data.catalog import Metadata
from drivetrain.structures import Boxes, Instances
from drivetrain.visualization import class_color

_SIZE = (100, 200)
_METADATA = Metadata("x", thing_classes=["cat", "dog"], stuff_classes=["sky"], thing_colors=[(1, 2, 3), (50, 60, 70)])


def _frame() -> np.ndarray[Any, Any]:
    return np.full((*_SIZE, 3), 100, dtype=np.uint8)


def _found(*lefts: int, classes: list[int] | None = None, masks: bool = False) -> Instances:
    """Squares of 40 pixels, from the row 40 on."""
    boxes = torch.tensor([[left, 40, left + 40, 80] for left in lefts], dtype=torch.float32).reshape(-1, 4)
    found = Instances(_SIZE, pred_classes=torch.tensor(classes or [0] * len(lefts)))
    if masks:
        bitmaps = torch.zeros(len(lefts), *_SIZE, dtype=torch.bool)
        for bitmap, left in zip(bitmaps, lefts, strict=True):
            bitmap[40:80, left : left + 40] = True
        found.pred_masks = bitmaps
    else:
        found.pred_boxes = Boxes(boxes)
    return found


def _colors(video: VideoVisualizer, found: Instances) -> list[int]:
    """The number of the colour of each frame, read off its lower edge."""
    picture = video.draw_instance_predictions(_frame(), found).get_image()
    lefts = (
        found.pred_boxes.tensor[:, 0] if found.has("pred_boxes") else found.pred_masks.any(dim=1).int().argmax(dim=1)
    )
    palette = {class_color(i): i for i in range(20)}
    return [palette[tuple(picture[79, int(left) + 3].tolist())] for left in lefts]


@pytest.mark.parametrize("masks", [False, True])
def test_objects_that_move_and_change_places_keep_their_colours(masks: bool) -> None:
    video = VideoVisualizer(_METADATA)
    assert _colors(video, _found(0, 100, masks=masks)) == [0, 1]
    assert _colors(video, _found(105, 10, masks=masks)) == [1, 0]
    assert _colors(video, _found(20, masks=masks)) == [0]
    assert _colors(video, _found(105, 25, masks=masks)) == [1, 0]


def test_a_new_object_gets_a_free_colour() -> None:
    video = VideoVisualizer(_METADATA)
    assert _colors(video, _found(0)) == [0]
    assert _colors(video, _found(60)) == [1]  # another place: another object, and the first is remembered
    assert _colors(video, _found(120, 60, 0)) == [2, 1, 0]


def test_another_class_is_another_object() -> None:
    video = VideoVisualizer(_METADATA)
    assert _colors(video, _found(0, classes=[0])) == [0]
    assert _colors(video, _found(0, classes=[1])) == [1]


def test_the_best_overlap_counts() -> None:
    video = VideoVisualizer(_METADATA)
    assert _colors(video, _found(50)) == [0]
    assert _colors(video, _found(40, 52)) == [1, 0]


@pytest.mark.parametrize(("empty", "again"), [(7, 1), (8, 0)])
def test_what_was_not_seen_for_long_is_forgotten(empty: int, again: int) -> None:
    video = VideoVisualizer(_METADATA)
    _colors(video, _found(0))
    for _ in range(empty):
        assert _colors(video, _found()) == []
    assert _colors(video, _found(100)) == [again]  # its colour is free again, or not yet


def test_segmentation_has_the_colours_of_the_classes() -> None:
    video = VideoVisualizer(_METADATA, ColorMode.SEGMENTATION)
    found = _found(0, 100, classes=[1, 0], masks=True)
    same = Visualizer(_frame(), _METADATA, instance_mode=ColorMode.SEGMENTATION).draw_instance_predictions(found)
    drawn = video.draw_instance_predictions(_frame(), found)
    assert isinstance(drawn, VisImage)
    assert (drawn.get_image() == same.get_image()).all()


def test_without_boxes_and_masks_it_draws_as_the_visualizer() -> None:
    found = Instances(_SIZE, pred_keypoints=torch.tensor([[[50.0, 50.0, 1.0]]]))
    drawn = VideoVisualizer(_METADATA).draw_instance_predictions(_frame(), found).get_image()
    assert (drawn == Visualizer(_frame(), _METADATA).draw_instance_predictions(found).get_image()).all()
    assert (drawn != 100).any()


def test_semantic_segmentation_is_drawn_as_by_the_visualizer() -> None:
    labels = torch.zeros(_SIZE, dtype=torch.int64)
    drawn = VideoVisualizer(_METADATA).draw_sem_seg(_frame(), labels).get_image()
    assert (drawn == Visualizer(_frame(), _METADATA).draw_sem_seg(labels).get_image()).all()
    assert (VideoVisualizer(_METADATA).draw_sem_seg(_frame(), labels, area_threshold=10**6).get_image() == 100).all()


def test_panoptic_things_keep_their_colours_when_their_ids_change() -> None:
    video = VideoVisualizer(_METADATA)

    def colors(*ids: int) -> list[list[int]]:
        labels = torch.full(_SIZE, 9)
        labels[40:80, 0:40], labels[40:80, 100:140] = ids
        segments = [{"id": 9, "category_id": 0, "isthing": False}]
        segments += [{"id": i, "category_id": 0, "isthing": True} for i in sorted(ids)]
        picture = video.draw_panoptic_seg_predictions(_frame(), labels, segments, alpha=1.0).get_image()
        return [picture[42, x].tolist() for x in (2, 102)]

    first = colors(1, 2)
    assert first == [list(class_color(0)), list(class_color(1))]
    assert colors(2, 1) == first
