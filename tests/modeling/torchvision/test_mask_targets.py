"""MaskCrops: torchvision's mask targets, from small bitmaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from drivetrain.modeling.torchvision.mask_targets import MaskCrops
from drivetrain.structures import BitMasks, PolygonMasks

SIZE = (60, 90)
CPU = torch.device("cpu")


def polygons(seed: int) -> PolygonMasks:
    """Ten instances of one or two random polygons, some of which leave the image, and one without any."""
    rng = np.random.default_rng(seed)
    made: list[list[np.ndarray]] = []
    for _ in range(10):
        centre, radius = rng.uniform((0, 0), SIZE[::-1]), rng.uniform(2, 30)
        turns = [np.sort(rng.uniform(0, 2 * np.pi, 6)) for _ in range(rng.integers(1, 3))]
        made.append([(centre + radius * np.stack((np.cos(t), np.sin(t)), axis=1)).reshape(-1) for t in turns])
    return PolygonMasks([*made, []])


def boxes_within(count: int, seed: int) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed))
    low, high = corners.min(dim=1).values, corners.max(dim=1).values
    return torch.cat((low, high), dim=1) * torch.tensor([90.0, 60.0, 90.0, 60.0])


@pytest.mark.parametrize("seed", range(4))
def test_targets_are_torchvisions_of_whole_bitmaps(seed) -> None:
    masks = polygons(seed)
    whole = BitMasks.from_polygon_masks(masks, *SIZE)
    boxes = boxes_within(200, seed)
    boxes[:4] = torch.tensor([0.0, 0.0, 90.0, 60.0])  # to every side of the image
    matched = torch.randint(0, len(masks), (200,), generator=torch.Generator().manual_seed(seed))
    expected = project_masks_on_boxes(whole.tensor.to(torch.uint8), boxes, matched, 28)
    assert 0.02 < expected.mean() < 0.9
    for given in (masks, whole):
        got = MaskCrops.of(given, SIZE, CPU).sample(boxes, matched, 28)
        assert torch.allclose(got, expected, atol=1e-4)


def test_bitmaps_are_no_larger_than_their_polygons() -> None:
    square = np.array([10.0, 20.0, 14.0, 20.0, 14.0, 27.0, 10.0, 27.0])
    crops = MaskCrops.of(PolygonMasks([[square], []]), SIZE, CPU)
    assert crops.bitmaps[0].shape == (9, 6)  # a pixel more each way
    assert crops.corners.tolist() == [[9, 19], [0, 0]]
    assert int(crops.bitmaps[0].sum()) == 28
    assert crops.bitmaps[1].shape == (1, 1) and not crops.bitmaps[1].any()


@pytest.mark.parametrize("masks", [PolygonMasks([]), BitMasks(torch.zeros(0, *SIZE))])
def test_nothing(masks) -> None:
    crops = MaskCrops.of(masks, SIZE, CPU)
    assert crops.bitmaps == ()
    assert crops.sample(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 28).shape == (0, 28, 28)
