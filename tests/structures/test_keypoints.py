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
