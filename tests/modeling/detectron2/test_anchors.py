"""Anchors."""

from __future__ import annotations

import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.anchors import AnchorGenerator, cell_anchors


def test_sizes_and_shapes_of_a_cell() -> None:
    cell = cell_anchors([10, 20], [0.5, 2.0])
    widths, heights = cell[:, 2] - cell[:, 0], cell[:, 3] - cell[:, 1]
    assert torch.allclose(widths * heights, torch.tensor([100.0, 100.0, 400.0, 400.0]))
    assert torch.allclose(heights / widths, torch.tensor([0.5, 2.0, 0.5, 2.0]))
    assert torch.allclose(cell[:, :2], -cell[:, 2:])


def test_places_in_rows() -> None:
    generator = AnchorGenerator([[4], [8]], [[1.0]], [8, 16])
    fine, coarse = generator([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 2)])
    centres = (fine[:, :2] + fine[:, 2:]) / 2
    assert centres.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
    assert ((coarse[:, :2] + coarse[:, 2:]) / 2).tolist() == [[0, 0], [16, 0]]
    shifted = AnchorGenerator([[4]], [[1.0]], [8], offset=0.5)([torch.zeros(1, 1, 1, 2)])[0]
    assert ((shifted[:, :2] + shifted[:, 2:]) / 2).tolist() == [[4, 4], [12, 4]]


def test_lists_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="SIZES has 3 lists, but there are 2 feature maps"):
        AnchorGenerator([[1], [2], [3]], [[1.0]], [4, 8])
    with pytest.raises(ModelError, match=r"make \[1, 2\] anchors on different levels"):
        AnchorGenerator([[1], [2, 3]], [[1.0]], [4, 8])
    assert AnchorGenerator([[1, 2]], [[0.5, 1, 2]], [4, 8]).num_anchors == 6
