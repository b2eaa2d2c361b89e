"""Masks of scores within boxes, against torchvision's way of pasting them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from drivetrain.structures import Boxes, Instances, RoiMasks, rle_to_bitmask

SIZE = (50, 70)


def masks(count: int = 12, seed: int = 0, size: tuple[int, int] = SIZE) -> RoiMasks:
    """Random smooth scores in random boxes, some of which reach over the image's sides."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 5, 5, generator=random)
    scores = torch.nn.functional.interpolate(coarse, (28, 28), mode="bicubic").clamp(0, 1)[:, 0]
    low = torch.rand(count, 2, generator=random) * torch.tensor([size[1], size[0]]) - 5
    boxes = torch.cat((low, low + 1 + 40 * torch.rand(count, 2, generator=random)), dim=1)
    return RoiMasks(scores, boxes, size)


@pytest.mark.parametrize("seed", range(3))
def test_bitmaps_are_torchvisions(seed) -> None:
    given = masks(seed=seed)
    expected = paste_masks_in_image(given.scores[:, None], given.boxes, SIZE)[:, 0] >= 0.5
    assert 0.02 < expected.float().mean() < 0.6
    assert given.tensor.dtype == torch.bool
    assert torch.equal(given.tensor, expected)
    assert torch.equal(torch.stack(list(given)), expected)


def test_run_lengths_are_those_of_the_bitmaps() -> None:
    given = masks()
    decoded = np.stack([rle_to_bitmask(code) for code in given.run_lengths()])
    assert np.array_equal(decoded, given.tensor.numpy())


def test_the_threshold_counts() -> None:
    given = masks()
    strict = RoiMasks(given.scores, given.boxes, SIZE, threshold=0.8)
    assert 0 < strict.tensor.sum() < given.tensor.sum()
    assert not (strict.tensor & ~given.tensor).any()
    assert strict[:2].threshold == strict.to("cpu").threshold == RoiMasks.cat([strict, strict]).threshold == 0.8


def test_boxes_outside_the_image_leave_nothing() -> None:
    boxes = torch.tensor([[-60.0, 5, -30, 20], [5, 200, 20, 230], [5.0, 5, 5, 5]])
    given = RoiMasks(torch.ones(3, 28, 28), boxes, SIZE)
    assert given.tensor.flatten(1).sum(dim=1).tolist() == [0, 0, 1]
    assert [int(rle_to_bitmask(code).sum()) for code in given.run_lengths()] == [0, 0, 1]


def test_picking_and_joining() -> None:
    given, other = masks(), masks(seed=1)
    whole = given.tensor
    assert torch.equal(given[3].tensor, whole[3:4])
    assert torch.equal(given[2:5].tensor, whole[2:5])
    assert torch.equal(given[torch.tensor([4, 1])].tensor, whole[[4, 1]])
    assert torch.equal(given[torch.arange(12) > 8].tensor, whole[9:])
    assert torch.equal(RoiMasks.cat([given, other]).tensor, torch.cat((whole, other.tensor)))
    instances = Instances(SIZE, pred_boxes=Boxes(given.boxes), pred_masks=given)
    assert torch.equal(instances[5:7].pred_masks.tensor, whole[5:7])
    assert repr(given) == "RoiMasks(num_instances=12, height=50, width=70)"


def test_none() -> None:
    empty = masks(count=0)
    assert empty.tensor.shape == (0, *SIZE)
    assert empty.run_lengths() == list(empty) == []


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 28, 27\) and \(2, 4\)"):
        RoiMasks(torch.zeros(2, 28, 27), torch.zeros(2, 4), SIZE)
    with pytest.raises(ValueError, match=r"but those of \[\(50, 70\), \(9, 9\)\] were"):
        RoiMasks.cat([masks(), masks(size=(9, 9))])
