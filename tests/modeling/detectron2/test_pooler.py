"""Features of boxes."""

from __future__ import annotations

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
