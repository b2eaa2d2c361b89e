from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.data.formats.label_maps import write_label_map, write_panoptic_map
from drivetrain.data.images import UnreadableImageError
from drivetrain.data.segmentation import panoptic_targets, sem_seg_target
from drivetrain.data.transforms import (
    CropTransform,
    FlipTransform,
    NoOpTransform,
    PadTransform,
    ResizeTransform,
    TransformList,
)
from drivetrain.errors import DatasetError

HEIGHT, WIDTH = 6, 8
IDS = np.array([[500] * 3 + [70_000] * 3 + [0] * 2] * 3 + [[500] * 3 + [9] * 5] * 3)
SEGMENTS = [
    {"id": 70_000, "category_id": 4, "isthing": True, "iscrowd": 0},
    {"id": 500, "category_id": 300, "isthing": False, "iscrowd": 0},
    {"id": 9, "category_id": 1, "isthing": True, "iscrowd": 1},
]


@pytest.fixture
def panoptic(tmp_path: Path) -> dict[str, Any]:
    write_panoptic_map(tmp_path / "p.png", IDS)
    return {"file_name": "a.jpg", "pan_seg_file_name": str(tmp_path / "p.png"), "segments_info": SEGMENTS}


@pytest.fixture
def semantic(tmp_path: Path) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    labels = np.random.default_rng(0).integers(0, 19, (HEIGHT, WIDTH)).astype(np.uint8)
    labels[0, 0] = 255
    write_label_map(tmp_path / "s.png", labels)
    return {"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "s.png")}, labels


def same() -> NoOpTransform:
    return NoOpTransform((HEIGHT, WIDTH))


def moves() -> list[tuple[Any, Any]]:
    """Transforms, and the same done to an array by hand, with a fill for what was not in the image."""
    size = (HEIGHT, WIDTH)
    crop = CropTransform(size, 1, 2, 4, 5)
    doubled = ResizeTransform(size, (2 * HEIGHT, 2 * WIDTH))
    flip = FlipTransform((HEIGHT, WIDTH))
    return [
        (same(), lambda a, fill: a),
        (flip, lambda a, fill: a[:, ::-1]),
        (crop, lambda a, fill: a[1:5, 2:7]),
        (doubled, lambda a, fill: a.repeat(2, axis=0).repeat(2, axis=1)),
        (TransformList([flip, doubled], size), lambda a, fill: a[:, ::-1].repeat(2, axis=0).repeat(2, axis=1)),
    ]


@pytest.mark.parametrize("number", range(5))
def test_label_maps_move_with_their_image(semantic: tuple[dict[str, Any], Any], number: int) -> None:
    record, labels = semantic
    transform, by_hand = moves()[number]
    target = sem_seg_target(record, transform)
    assert target.dtype == torch.int64
    assert np.array_equal(target.numpy(), by_hand(labels, 255))


def test_what_was_not_in_the_image_is_ignored(semantic: tuple[dict[str, Any], Any], panoptic: dict[str, Any]) -> None:
    record, labels = semantic
    pad = PadTransform((HEIGHT, WIDTH), (HEIGHT + 2, WIDTH + 3), top=1, left=2)
    target = sem_seg_target(record, pad, ignore_label=254).numpy()
    inside = np.zeros((HEIGHT + 2, WIDTH + 3), dtype=bool)
    inside[1 : HEIGHT + 1, 2 : WIDTH + 2] = True
    assert (target[~inside] == 254).all() and np.array_equal(target[inside].reshape(HEIGHT, WIDTH), labels)
    assert (sem_seg_target(panoptic, pad).numpy()[~inside] == 255).all()
    assert not panoptic_targets(panoptic, pad).gt_masks.tensor.numpy()[:, ~inside].any()


def test_labels_of_sixteen_bits(tmp_path: Path) -> None:
    labels = np.array([[0, 255, 256, 40_000, 65_535]], dtype=np.uint16)
    write_label_map(tmp_path / "w.png", labels)
    record = {"sem_seg_file_name": str(tmp_path / "w.png")}
    assert sem_seg_target(record, FlipTransform((1, 5))).tolist() == labels[:, ::-1].tolist()
    padded = sem_seg_target(record, PadTransform((1, 5), (1, 6)), ignore_label=65_535)
    assert sorted(padded.flatten().tolist()) == sorted([*labels.flatten().tolist(), 65_535])


def test_panoptic_segments_as_a_label_map(panoptic: dict[str, Any]) -> None:
    expected = np.select([IDS == 500, IDS == 70_000, IDS == 9], [300, 4, 1], 255)
    assert np.array_equal(sem_seg_target(panoptic, same()).numpy(), expected)
    assert np.array_equal(sem_seg_target(panoptic, FlipTransform((HEIGHT, WIDTH))).numpy(), expected[:, ::-1])


def test_panoptic_segments_as_instances(panoptic: dict[str, Any]) -> None:
    found = panoptic_targets(panoptic, same())
    assert found.image_size == (HEIGHT, WIDTH)
    assert found.gt_classes.tolist() == [4, 300]
    assert np.array_equal(found.gt_masks.tensor.numpy(), np.stack([IDS == 70_000, IDS == 500]))
    assert found.gt_boxes.tensor.tolist() == [[3, 0, 6, 3], [0, 0, 3, 6]]
    things = panoptic_targets(panoptic, FlipTransform((HEIGHT, WIDTH)), things_only=True)
    assert things.gt_classes.tolist() == [4] and things.gt_boxes.tensor.tolist() == [[2, 0, 5, 3]]


def test_segments_that_were_cut_away_are_dropped(panoptic: dict[str, Any]) -> None:
    right = CropTransform((HEIGHT, WIDTH), 0, 6, 6, 2)
    found = panoptic_targets(panoptic, right)
    assert len(found) == 0 and found.gt_masks.tensor.shape == (0, 6, 2) and found.gt_boxes.tensor.shape == (0, 4)
    assert found.gt_classes.dtype == torch.int64


def test_pixels_of_unknown_segments_are_void(panoptic: dict[str, Any]) -> None:
    record = {**panoptic, "segments_info": SEGMENTS[:1]}
    assert np.array_equal(sem_seg_target(record, same()).numpy(), np.where(IDS == 70_000, 4, 255))
    assert (sem_seg_target({**panoptic, "segments_info": []}, same()) == 255).all()


def test_maps_of_another_size_and_records_without_one(
    semantic: tuple[dict[str, Any], Any], panoptic: dict[str, Any]
) -> None:
    other = NoOpTransform((HEIGHT, WIDTH + 1))
    for record in (semantic[0], panoptic):
        with pytest.raises(UnreadableImageError, match=r"has 8 x 6 pixels \(width x height\), but its image has 9 x 6"):
            sem_seg_target(record, other)
    with pytest.raises(UnreadableImageError, match="has 8 x 6 pixels"):
        panoptic_targets(panoptic, other)
    with pytest.raises(DatasetError, match="'a.jpg' has no 'sem_seg_file_name' and no 'pan_seg_file_name'"):
        sem_seg_target({"file_name": "a.jpg"}, same())
    with pytest.raises(DatasetError, match="'a.jpg' has no 'pan_seg_file_name' with 'segments_info'"):
        panoptic_targets(semantic[0], same())
    with pytest.raises(UnreadableImageError, match="over the limit of 10"):
        panoptic_targets(panoptic, same(), max_pixels=10)
