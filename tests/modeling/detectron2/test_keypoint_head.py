"""Heatmaps of keypoints."""

from __future__ import annotations

import math

import pytest
import torch

from drivetrain.modeling.detectron2.keypoint_head import KeypointHead, keypoints_of_heatmaps

BOX = torch.tensor([[10.0, 20.0, 50.0, 60.0]])


def test_the_loss_by_hand() -> None:
    logits = torch.zeros(1, 2, 8, 8)
    points = torch.tensor([[[30.0, 40.0, 2], [0.0, 0.0, 0]]])
    head = KeypointHead(4, 2, (6,))
    assert head.loss(logits, BOX, points, 3).item() == pytest.approx(math.log(64))
    assert head.loss(logits, BOX, points * 0, 3) == 0
    other = KeypointHead(4, 2, (6,), loss_weight=0.5, normalizer=10.0)
    assert other.loss(logits, BOX, points, 3).item() == pytest.approx(0.5 * math.log(64) / 30)


def test_the_best_place_is_found_and_its_probability() -> None:
    maps = torch.full((1, 2, 8, 8), -9.0)
    maps[0, 0, 2, 5] = 5.0
    maps[0, 1, 7, 0] = 5.0
    found = keypoints_of_heatmaps(maps, BOX)[0]
    assert found[0, 0].item() == pytest.approx(10 + 5.5 * 5, abs=2.5) and found[0, 1].item() == pytest.approx(
        20 + 2.5 * 5, abs=2.5
    )
    assert found[1, 0].item() == pytest.approx(10 + 0.5 * 5, abs=2.5) and found[1, 1].item() == pytest.approx(
        20 + 7.5 * 5, abs=2.5
    )
    assert (found[:, 3] > 0.5).all()


def test_maps_are_four_times_as_fine_as_features() -> None:
    head = KeypointHead(4, 5, (6, 7))
    assert list(head.state_dict())[::2] == ["conv_fcn1.weight", "conv_fcn2.weight", "score_lowres.weight"]
    assert head(torch.zeros(2, 4, 7, 7)).shape == (2, 5, 28, 28)
