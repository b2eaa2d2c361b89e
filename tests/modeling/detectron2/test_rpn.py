"""Proposals; that they and the losses equal detectron2's is tested with the whole models."""

from __future__ import annotations

import pytest
import torch

from drivetrain.modeling.detectron2.anchors import AnchorGenerator
from drivetrain.modeling.detectron2.rpn import RPN, RPNOptions

SIZE = (64, 64)


def network(**options: object) -> RPN:
    torch.manual_seed(0)
    return RPN(8, AnchorGenerator([[16], [32]], [[1.0]], [8, 16]), RPNOptions(**options), (-1,))  # type: ignore[arg-type]


def features() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 8, side, side, generator=generator) for side in (8, 4)]


def test_numbers_in_training_and_testing() -> None:
    rpn = network(post_nms_topk=(7, 3), nms_thresh=1.0)
    assert len(rpn.train()(features(), [SIZE], None)[0][0][0]) == 7
    boxes, scores = rpn.eval()(features(), [SIZE], None)[0][0]
    assert len(boxes) == 3 and (scores.diff() <= 0).all()
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 64).all() and not boxes.requires_grad


def test_proposals_that_are_too_small_drop_out() -> None:
    everything = network(nms_thresh=1.0, pre_nms_topk=(99, 99)).eval()(features(), [SIZE], None)[0][0][0]
    large = network(nms_thresh=1.0, pre_nms_topk=(99, 99), min_size=20).eval()(features(), [SIZE], None)[0][0][0]
    sides = (everything[:, 2:] - everything[:, :2]).amin(dim=1)
    assert 0 < len(large) == int((sides > 20).sum()) < len(everything)


def test_the_losses_are_divided_by_what_might_have_been_sampled() -> None:
    truth = [torch.tensor([[8.0, 8.0, 40.0, 40.0]])]
    few = network(batch_size_per_image=1000)(features(), [SIZE], truth)[1]
    more = network(batch_size_per_image=2000)(features(), [SIZE], truth)[1]
    for name in ("loss_rpn_cls", "loss_rpn_loc"):
        assert few[name].item() == pytest.approx(2 * more[name].item(), rel=1e-5)
    weighted = network(batch_size_per_image=1000, loss_weight=2.0, box_loss_weight=3.0)(features(), [SIZE], truth)[1]
    assert weighted["loss_rpn_loc"].item() == pytest.approx(6 * few["loss_rpn_loc"].item(), rel=1e-5)


def test_anchors_beyond_the_image_may_be_left_out() -> None:
    truth = [torch.tensor([[0.0, 0.0, 10.0, 10.0]])]
    all_of_them = network(batch_size_per_image=1000)(features(), [SIZE], truth)[1]["loss_rpn_cls"]
    inside = network(batch_size_per_image=1000, boundary_thresh=0)(features(), [SIZE], truth)[1]["loss_rpn_cls"]
    assert 0 < inside.item() < all_of_them.item()


def test_more_convolutions_have_names_of_their_own() -> None:
    rpn = RPN(8, AnchorGenerator([[16]], [[1.0]], [8]), RPNOptions(), (16, -1))
    names = [name for name, _ in rpn.rpn_head.named_parameters()]
    assert names[:4] == ["conv.conv0.weight", "conv.conv0.bias", "conv.conv1.weight", "conv.conv1.bias"]
    assert len(rpn(features()[:1], [SIZE], None)[0][0][0])
