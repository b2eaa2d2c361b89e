"""Anchors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2 import build_detectron2_model
from drivetrain.modeling.detectron2.anchors import (
    ANCHOR_GENERATORS,
    AnchorGenerator,
    GivenAnchors,
    build_anchors,
    cell_anchors,
)
from drivetrain.modeling.detectron2.layers import ShapeSpec
from drivetrain.structures import Boxes

from .conftest import config


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


class Doubled(nn.Module):
    """A generator of one's own, in detectron2's form: the default's numbers, given out as boxes."""

    def __init__(self, cfg: object, shapes: list[ShapeSpec]) -> None:
        super().__init__()
        self.inner = AnchorGenerator([[10]], [[1.0]], [shape.stride or 0 for shape in shapes])
        self.num_anchors = [1] * len(shapes)

    def forward(self, features: list[torch.Tensor]) -> list[Boxes]:
        return [Boxes(2 * anchors) for anchors in self.inner(features)]


def test_one_of_ones_own_by_its_name() -> None:
    cfg = config("faster", MODEL__ANCHOR_GENERATOR__NAME="Doubled")
    shapes = [ShapeSpec(stride=8), ShapeSpec(stride=16)]
    with pytest.raises(ModelError, match="NAME 'Doubled' has no counterpart here; there are DefaultAnchorGenerator"):
        build_anchors(cfg, shapes)
    ANCHOR_GENERATORS.register(Doubled)
    try:
        made = build_anchors(cfg, shapes)
        model = build_detectron2_model(cfg)
    finally:
        ANCHOR_GENERATORS.remove("Doubled")
    fine, coarse = made([torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 1)])
    assert made.num_anchors == 1 and coarse.tolist() == [[-10, -10, 10, 10]]
    assert fine.tolist() == [[-10, -10, 10, 10], [6, -10, 26, 10]]
    assert model.proposal_generator.rpn_head.objectness_logits.out_channels == 1


def test_one_of_ones_own_has_equally_many_on_all_levels() -> None:
    generator = Doubled(None, [ShapeSpec(stride=8)])
    generator.num_anchors = [1, 2]
    with pytest.raises(ModelError, match=r"the anchor generator makes \[1, 2\] anchors on different levels"):
        GivenAnchors(generator)
