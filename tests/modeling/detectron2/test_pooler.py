"""Features of boxes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torchvision.ops import roi_align

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.pooler import ROIPooler, level_of_boxes


@pytest.mark.parametrize(("side", "level"), [(224, 4), (223, 3), (448, 5), (5000, 5), (112, 3), (3, 2)])
def test_the_level_of_a_box(side: int, level: int) -> None:
    assert level_of_boxes(torch.tensor([[10.0, 10.0, 10.0 + side, 10.0 + side]]), 2, 5).item() == level - 2


def test_each_box_comes_from_its_image_and_level() -> None:
    features = [torch.stack([torch.full((1, 128 // s, 128 // s), 10.0 * k + s) for k in range(2)]) for s in (4, 8)]
    pooler = ROIPooler(3, [4, 8], 0)
    small, large = [5.0, 5.0, 50.0, 50.0], [0.0, 0.0, 127.0, 127.0]
    out = pooler(features, [torch.tensor([small, large]), torch.tensor([large])])
    assert out.shape == (3, 1, 3, 3)
    assert [o.unique().tolist() for o in out] == [[4.0], [8.0], [18.0]]


def sampled(maps: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """The values (C,) of maps (C, H, W) at a point, pixels' values being at whole numbers."""
    height, width = maps.shape[-2:]
    if not (-1 <= x <= width and -1 <= y <= height):
        return torch.zeros(len(maps))
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    upper = maps[:, top, left] * (1 - x + left) + maps[:, top, right] * (x - left)
    lower = maps[:, bottom, left] * (1 - x + left) + maps[:, bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def cut_point_by_point(maps: torch.Tensor, box: list[float], size: int, stride: int, ratio: int, half: bool) -> Any:
    """Mean values at ratio x ratio points of each cell; a ratio of 0 takes a point for each begun pixel."""
    left, top, right, bottom = (edge / stride - (0.5 if half else 0.0) for edge in box)
    width, height = right - left, bottom - top
    if not half:
        width, height = max(width, 1.0), max(height, 1.0)
    columns, rows = (ratio or math.ceil(side / size) for side in (width, height))
    out = torch.zeros(len(maps), size, size)
    for i, j in itertools.product(range(size), repeat=2):
        for a, b in itertools.product(range(rows), range(columns)):
            x = left + width / size * (j + (b + 0.5) / columns)
            y = top + height / size * (i + (a + 0.5) / rows)
            out[:, i, j] += sampled(maps, x, y) / (rows * columns)
    return out


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["ROIAlignV2", "ROIAlign"])
def test_every_sampling_ratio_point_by_point(ratio: int, kind: str) -> None:
    maps = torch.randn(1, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    boxes = [[3.0, 5.0, 70.0, 61.0], [-6.0, 20.0, 12.0, 90.0], [40.0, 30.0, 43.0, 33.0]]
    found = ROIPooler(3, [8], ratio, kind)([maps], [torch.tensor(boxes)])
    for cut, box in zip(found, boxes, strict=True):
        assert torch.allclose(cut, cut_point_by_point(maps[0], box, 3, 8, ratio, kind == "ROIAlignV2"), atol=1e-5)


def test_half_a_pixel() -> None:
    maps = torch.arange(16.0).expand(1, 1, 16, 16).contiguous()
    box = [torch.tensor([[4.0, 4.0, 12.0, 12.0]])]
    exact = ROIPooler(2, [1], 2)([maps], box)
    older = ROIPooler(2, [1], 2, "ROIAlign")([maps], box)
    assert exact[0, 0, 0].tolist() == [5.5, 9.5] and older[0, 0, 0].tolist() == [6.0, 10.0]
    rows = torch.tensor([[0.0, 4.0, 4.0, 12.0, 12.0]])
    assert torch.equal(exact, roi_align(maps, rows, (2, 2), 1.0, 2, aligned=True))
    assert ROIPooler(2, [1], 0, "ROIPool")([maps], box)[0, 0, 0, 1] == 12
    with pytest.raises(ModelError, match="POOLER_TYPE must be"):
        ROIPooler(2, [1], 0, "ROIAlignV3")


def test_no_boxes() -> None:
    assert ROIPooler(2, [4, 8], 0)([torch.zeros(1, 5, 8, 8), torch.zeros(1, 5, 4, 4)], [torch.zeros(0, 4)]).shape == (
        0,
        5,
        2,
        2,
    )
