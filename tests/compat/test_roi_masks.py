"""Masks of boxes."""

from __future__ import annotations

import pytest
import torch

from drivetrain.compat.roi_masks import ROIMasks
from drivetrain.structures import Boxes


def test_masks_are_pasted_into_their_boxes() -> None:
    scores = torch.zeros(2, 4, 4)
    scores[0], scores[1, :2] = 1.0, 1.0
    masks = ROIMasks(scores)
    boxes = Boxes(torch.tensor([[2.0, 1.0, 6.0, 5.0], [0.0, 0.0, 8.0, 8.0]]))
    bitmaps = masks.to_bitmasks(boxes, 8, 10).tensor
    expected = torch.zeros(2, 8, 10, dtype=torch.bool)
    expected[0, 1:5, 2:6] = True
    expected[1, :4, :8] = True
    assert torch.equal(bitmaps, expected)
    expected[1] = False
    expected[1, 1:3, 1:7] = True  # pixels nearer to an edge lie between 1 and the 0 beyond it
    assert torch.equal(masks.to_bitmasks(boxes.tensor, 8, 10, threshold=0.9).tensor, expected)


def test_they_are_indexed_and_moved() -> None:
    masks = ROIMasks(torch.arange(12.0).reshape(3, 2, 2))
    assert len(masks) == 3 and repr(masks) == "ROIMasks(num_instances=3)"
    assert masks[torch.tensor([False, True, True])].tensor[0, 0, 0] == 4 and len(masks[1:]) == 2
    assert masks.to("cpu").device == torch.device("cpu")
    for shape in ((2, 2), (3, 1, 2, 2)):
        with pytest.raises(ValueError, match=r"\(N, M, M\)"):
            ROIMasks(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"\(N, M, M\)"):
        masks[0]
