"""Keypoints of instances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.structures import Keypoints


def test_shape_is_checked() -> None:
    assert Keypoints(np.zeros((2, 17, 3))).tensor.dtype == torch.float32
    assert Keypoints([[[1, 2, 2]]]).tensor.tolist() == [[[1, 2, 2]]]
    assert len(Keypoints(torch.zeros(0, 17, 3))) == 0
    for wrong in (torch.zeros(2, 17, 2), torch.zeros(51)):
        with pytest.raises(ValueError, match=r"\(N, K, 3\)"):
            Keypoints(wrong)


def test_indexing_and_joining() -> None:
    points = Keypoints(torch.arange(18.0).view(3, 2, 3))
    assert points[1].tensor.tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert points[torch.tensor([False, False, True])].tensor[0, 0, 0] == 12
    assert points[[2, 0]].tensor[1, 0, 0] == 0
    assert len(points[5:]) == 0
    assert len(Keypoints.cat([points, points[:1]])) == 4
    with pytest.raises(ValueError, match="empty"):
        Keypoints.cat([])


def test_to_and_text() -> None:
    points = Keypoints(torch.zeros(1, 4, 3)).to("cpu")
    assert points.device.type == "cpu"
    assert repr(points) == "Keypoints(num_instances=1, num_keypoints=4)"


def test_places_in_the_map_of_a_box() -> None:
    """Boxes of 40 x 20 and 8 x 8 pixels on maps of 8 x 8: a cell is 5 x 2.5 pixels, and one pixel."""
    boxes = torch.tensor([[10.0, 20.0, 50.0, 40.0], [0.0, 0.0, 8.0, 8.0]])
    edges = [[10.0, 20.0, 2], [16.0, 23.0, 1], [50.0, 40.0, 2]]
    outside = [[-0.1, 3.0, 2], [3.0, 8.1, 2], [3.5, 2.5, 0]]
    places, valid = Keypoints([edges, outside]).to_heatmap(boxes, 8)
    assert places.tolist() == [[0, 1 * 8 + 1, 63], [0, 0, 0]] and places.dtype == torch.int64
    assert valid.tolist() == [[True, True, True], [False, False, False]]
    inside, seen = Keypoints([[[3.5, 2.5, 1]]]).to_heatmap(boxes[1:], 8)
    assert (inside.item(), seen.item()) == (2 * 8 + 3, True)
    assert Keypoints(torch.zeros(0, 17, 3)).to_heatmap(torch.zeros(0, 4), 8)[0].shape == (0, 17)
