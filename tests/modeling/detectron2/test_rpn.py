"""Proposals; that they and the losses equal detectron2's is tested with the whole models."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from drivetrain.modeling.detectron2.anchors import AnchorGenerator
from drivetrain.modeling.detectron2.rpn import RPN, RPNHead, RPNOptions

from .slow import moved, without_overlapping

SIZE = (64, 64)


def network(**options: object) -> RPN:
    torch.manual_seed(0)
    anchors = AnchorGenerator([[16], [32]], [[1.0]], [8, 16])
    return RPN(["fine", "coarse"], RPNHead(8, 1), anchors, RPNOptions(**options))  # type: ignore[arg-type]


def features() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(1, 8, side, side, generator=generator) for name, side in (("fine", 8), ("coarse", 4))}


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


@pytest.mark.parametrize(
    ("sizes", "ratios", "offset", "numbers"),
    [
        ([[16], [32]], [[0.5, 1.0, 2.0]], 0.0, {}),
        ([[10, 20], [25, 50]], [[0.3], [3.0]], 0.5, {"nms_thresh": 0.3, "min_size": 6}),
        ([[12.5]], [[1.0, 0.7]], 0.25, {"pre_nms_topk": (9, 9), "post_nms_topk": (7, 7), "nms_thresh": 0.9}),
    ],
)
@torch.no_grad()
def test_proposals_box_by_box(
    sizes: list[list[float]], ratios: list[list[float]], offset: float, numbers: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    anchors = AnchorGenerator(sizes, ratios, [8, 16], offset)
    rpn = RPN(["fine", "coarse"], RPNHead(8, anchors.num_anchors), anchors, RPNOptions(**numbers)).eval()
    torch.nn.init.normal_(rpn.rpn_head.anchor_deltas.weight, std=0.3)
    maps = features()
    logits, deltas = rpn.rpn_head(list(maps.values()))
    options, candidates = RPNOptions(**numbers), []
    for level, stride in enumerate((8, 16)):
        here = []
        shapes = [(s, r) for s in sizes[min(level, len(sizes) - 1)] for r in ratios[min(level, len(ratios) - 1)]]
        side = 64 // stride
        places = itertools.product(range(side), range(side), shapes)
        for (row, column, (size, ratio)), score, change in zip(
            places, logits[level][0].tolist(), deltas[level][0].tolist(), strict=True
        ):
            width, height = size / math.sqrt(ratio), size * math.sqrt(ratio)
            x, y = (column + offset) * stride, (row + offset) * stride
            anchor = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            here.append((score, level, moved(anchor, change, (1, 1, 1, 1), SIZE)))
        candidates += sorted(here, reverse=True)[: options.pre_nms_topk[1]]
    large = [c for c in candidates if min(c[2][2] - c[2][0], c[2][3] - c[2][1]) > options.min_size]
    expected = without_overlapping(sorted(large, reverse=True), options.nms_thresh)[: options.post_nms_topk[1]]
    boxes, scores = rpn(maps, [SIZE], None)[0][0]
    assert scores.tolist() == pytest.approx([one[0] for one in expected], abs=1e-6) and len(expected) < len(candidates)
    assert torch.allclose(boxes, torch.tensor([one[2] for one in expected]), atol=1e-3)


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
    rpn = RPN(["fine"], RPNHead(8, 1, (16, -1)), AnchorGenerator([[16]], [[1.0]], [8]), RPNOptions())
    names = [name for name, _ in rpn.rpn_head.named_parameters()]
    assert names[:4] == ["conv.conv0.weight", "conv.conv0.bias", "conv.conv1.weight", "conv.conv1.bias"]
    assert len(rpn(features(), [SIZE], None)[0][0][0])
