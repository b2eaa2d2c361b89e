"""Anchor generators with detectron2's arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.compat.anchors import BufferList, DefaultAnchorGenerator, build_anchor_generator, given_anchors
from drivetrain.compat.config import configurable, get_cfg
from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.anchors import ANCHOR_GENERATORS, AnchorGenerator, GivenAnchors
from drivetrain.modeling.detectron2.layers import ShapeSpec

MAPS = [torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 2, 2)]


@pytest.mark.parametrize("ratios", [[0.5, 1.0, 2.0], [[0.5, 1.0, 2.0]], [[0.5, 1.0, 2.0]] * 2])
def test_the_same_anchors_as_of_configs(ratios: Any) -> None:
    generator = DefaultAnchorGenerator(sizes=[[16], [32]], aspect_ratios=ratios, strides=[8, 16], offset=0.25)
    expected = AnchorGenerator([[16], [32]], [[0.5, 1.0, 2.0]], [8, 16], 0.25)(MAPS)
    assert [boxes.tensor.tolist() for boxes in generator(MAPS)] == [anchors.tolist() for anchors in expected]
    assert generator.num_anchors == generator.num_cell_anchors == [3, 3] and generator.state_dict() == {}


def test_places_are_in_the_middle_of_cells_by_default() -> None:
    (boxes,) = DefaultAnchorGenerator(sizes=[[8]], aspect_ratios=[1.0], strides=[8])([torch.zeros(1, 1, 1, 2)])
    assert boxes.tensor.tolist() == [[0, 0, 8, 8], [8, 0, 16, 8]]


def test_from_a_config_and_one_derived_from_it() -> None:
    cfg = get_cfg()
    shapes = [ShapeSpec(stride=16)]
    made = DefaultAnchorGenerator(cfg, shapes)
    assert made.num_anchors == [15] and made.offset == 0.0
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = 0.5
    assert DefaultAnchorGenerator(cfg, shapes).offset == 0.5
    assert isinstance(build_anchor_generator(cfg, shapes), AnchorGenerator)

    class Clustered(DefaultAnchorGenerator):
        @configurable
        def __init__(self, *, boxes: int, **numbers: Any) -> None:
            super().__init__(**{**numbers, "sizes": [list(range(8, 8 + boxes))]})

        @classmethod
        def from_config(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
            return {**super().from_config(cfg, input_shape), "boxes": 4}

    ANCHOR_GENERATORS.register(Clustered)
    try:
        cfg.MODEL.ANCHOR_GENERATOR.NAME = "Clustered"
        own = build_anchor_generator(cfg, shapes)
    finally:
        ANCHOR_GENERATORS.remove("Clustered")
    assert own.num_anchors == 12 and own([torch.zeros(1, 1, 2, 2)])[0].shape == (48, 4)


def test_lists_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="sizes has 3 lists, but there are 2 feature maps"):
        DefaultAnchorGenerator(sizes=[[1], [2], [3]], aspect_ratios=[1.0], strides=[8, 16])


def test_a_list_of_tensors_moves_with_its_module() -> None:
    buffers = BufferList([torch.ones(2), torch.zeros(3)])
    assert len(buffers) == 2 and [len(b) for b in buffers] == [2, 3] and buffers.state_dict() == {}
    assert all(b.dtype == torch.float64 for b in buffers.double())


def test_either_form_is_taken() -> None:
    plain = AnchorGenerator([[16]], [[1.0]], [8])
    assert given_anchors(plain) is plain
    wrapped = given_anchors(DefaultAnchorGenerator(sizes=[[16]], aspect_ratios=[1.0], strides=[8], offset=0.0))
    assert isinstance(wrapped, GivenAnchors) and torch.equal(wrapped(MAPS[:1])[0], plain(MAPS[:1])[0])
