"""Masks of boxes, and where they lie in an image."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from drivetrain.modeling.detectron2.mask_head import MaskHead, paste_masks
from drivetrain.structures import BitMasks


def test_a_whole_mask_covers_its_box() -> None:
    boxes = torch.tensor([[3.0, 4.0, 13.0, 9.0], [-5.0, -5.0, 6.0, 6.0], [30.0, 30.0, 40.0, 40.0]])
    pasted = paste_masks(torch.ones(3, 28, 28), boxes, (20, 24))
    assert pasted.dtype == torch.bool and pasted.shape == (3, 20, 24)
    assert pasted[0].sum() == 50 and pasted[0, 4:9, 3:13].all()
    assert pasted[1].sum() == 36 and pasted[1, :6, :6].all()
    assert not pasted[2].any()


def test_a_mask_is_stretched_to_its_box() -> None:
    mask = torch.zeros(1, 4, 4)
    mask[0, :2] = 1
    pasted = paste_masks(mask, torch.tensor([[0.0, 0.0, 40.0, 40.0]]), (40, 40))[0]
    assert pasted[5:20, 5:35].all() and not pasted[20:].any()  # towards its edges a mask fades
    assert paste_masks(mask * 0.4, torch.tensor([[0.0, 0.0, 40.0, 40.0]]), (40, 40), threshold=0.3)[0, 5:15, 5:35].all()


def test_the_loss_is_that_of_the_true_class() -> None:
    head = MaskHead(4, 3, [6, 6])
    logits = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    bitmap = torch.zeros(2, 40, 40, dtype=torch.bool)
    bitmap[0, :, :20] = True
    boxes = torch.tensor([[0.0, 0.0, 40.0, 40.0], [0.0, 0.0, 40.0, 40.0]])
    loss = head.loss(logits, torch.tensor([2, 0]), [boxes], [BitMasks(bitmap)])
    wanted = torch.zeros(2, 28, 28)
    wanted[0, :, :14] = 1
    expected = binary_cross_entropy(torch.stack((logits[0, 2], logits[1, 0])).sigmoid(), wanted)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert head.loss(logits[:0], torch.zeros(0, dtype=torch.int64), [boxes[:0]], [BitMasks(bitmap[:0])]) == 0


def test_one_mask_for_all_classes() -> None:
    head = MaskHead(4, 1, [6])
    logits = head(torch.randn(2, 4, 7, 7))
    assert logits.shape == (2, 1, 14, 14)
    assert torch.equal(head.probabilities(logits, torch.tensor([2, 1])), logits[:, 0].sigmoid())
