"""The crop that keeps a minimum of an object in view."""

from __future__ import annotations

import numpy as np
import pytest

from drivetrain.data.transforms import Compose, CropTransform, NoOpTransform, RandomIoUCrop, ResizeShortestEdge
from drivetrain.errors import ConfigError

BOXES = np.array([[10.0, 20.0, 60.0, 70.0], [80.0, 5.0, 95.0, 25.0]])


def overlap(crop: CropTransform, box: np.ndarray) -> float:
    height, width = crop.output_size
    x0, y0 = max(box[0], crop.left), max(box[1], crop.top)
    x1, y1 = min(box[2], crop.left + width), min(box[3], crop.top + height)
    common = max(x1 - x0, 0) * max(y1 - y0, 0)
    return common / (height * width + (box[2] - box[0]) * (box[3] - box[1]) - common)


@pytest.mark.parametrize("limit", [0.1, 0.3])
def test_every_crop_keeps_an_object(limit: float) -> None:
    rng, augmentation = np.random.default_rng(0), RandomIoUCrop(overlaps=[limit])
    crops = [augmentation.draw_around(rng, 90, 120, BOXES) for _ in range(200)]
    cut = [c for c in crops if isinstance(c, CropTransform)]
    assert len(cut) > 100
    for crop in cut:
        height, width = crop.output_size
        assert 0.5 <= width / height <= 2 and height >= 0.3 * 90 - 1 and width >= 0.3 * 120 - 1
        kept = [b for b in BOXES if overlap(crop, b) >= limit - 1e-9]
        centres = [((b[0] + b[2]) / 2 - crop.left, (b[1] + b[3]) / 2 - crop.top) for b in kept]
        assert any(0 < x < width and 0 < y < height for x, y in centres)


def test_the_whole_image() -> None:
    rng = np.random.default_rng(0)
    assert isinstance(RandomIoUCrop(overlaps=[2.0]).draw_around(rng, 90, 120, BOXES), NoOpTransform)
    assert isinstance(RandomIoUCrop().draw_around(rng, 90, 120, np.zeros((0, 4))), NoOpTransform)
    assert isinstance(RandomIoUCrop().draw(rng, 90, 120), NoOpTransform)
    impossible = np.array([[0.0, 0.0, 1.0, 1.0]])
    assert isinstance(RandomIoUCrop(overlaps=[0.9]).draw_around(rng, 90, 120, impossible), NoOpTransform)


def test_boxes_reach_it_as_earlier_augmentations_leave_them() -> None:
    rng = np.random.default_rng(0)
    chain = Compose([ResizeShortestEdge(45), RandomIoUCrop(overlaps=[0.3])])
    assert chain.needs_boxes and not Compose([ResizeShortestEdge(45)]).needs_boxes
    for _ in range(50):
        last = chain.draw_around(rng, 90, 120, BOXES).transforms[-1]
        if isinstance(last, CropTransform):
            assert max(overlap(last, b) for b in BOXES / 2) >= 0.3 - 1e-9


def test_ranges_that_are_none() -> None:
    with pytest.raises(ConfigError, match="min_scale"):
        RandomIoUCrop(min_scale=0.9, max_scale=0.5)
