"""Which proposals are learned from; the rest of the second stage is tested with the whole models."""

from __future__ import annotations

import torch

from drivetrain.modeling.detectron2.box_head import BoxHead, BoxPredictor, PredictorOptions
from drivetrain.modeling.detectron2.pooler import ROIPooler
from drivetrain.modeling.detectron2.roi_heads import ROIHeads, SamplingOptions
from drivetrain.structures import Boxes, Instances

TRUTH = Instances((64, 64), gt_boxes=Boxes([[0.0, 0, 20, 20], [30, 30, 60, 60]]), gt_classes=torch.tensor([1, 0]))
PROPOSALS = torch.tensor([[0.0, 0.0, 20.0, 18.0], [31.0, 30.0, 60.0, 60.0], [5.0, 40.0, 20.0, 60.0]])


def heads(**options: object) -> ROIHeads:
    head = BoxHead(8, 3, (), (16,), "")
    predictor = BoxPredictor(16, PredictorOptions(num_classes=2))
    return ROIHeads(["p3"], SamplingOptions(**options), ROIPooler(3, [8], 0), head, predictor)  # type: ignore[arg-type]


def test_objects_and_background() -> None:
    (chosen,) = heads(positive_fraction=1.0).choose([PROPOSALS], [TRUTH])
    assert sorted(chosen.classes.tolist()) == [0, 0, 1, 1, 2]  # the true boxes are among them
    assert torch.equal(chosen.boxes[chosen.classes == 2], PROPOSALS[2:])
    (own,) = heads(positive_fraction=1.0, append_gt=False).choose([PROPOSALS], [TRUTH])
    assert sorted(own.classes.tolist()) == [0, 1, 2]
    objects = own.objects(2)
    assert sorted(zip(objects.classes.tolist(), objects.matched.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_at_most_so_many() -> None:
    torch.manual_seed(0)
    (chosen,) = heads(batch_size_per_image=4, positive_fraction=0.25).choose([PROPOSALS.repeat(9, 1)], [TRUTH])
    assert len(chosen.classes) == 4 and (chosen.classes < 2).sum() == 1


def test_an_image_without_objects_is_all_background() -> None:
    nothing = Instances((64, 64), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0, dtype=torch.int64))
    (chosen,) = heads().choose([PROPOSALS], [nothing])
    assert chosen.classes.tolist() == [2, 2, 2]
    losses = heads().losses({"p3": torch.randn(1, 8, 8, 8)}, [PROPOSALS], [nothing])
    assert losses["loss_box_reg"] == 0 and losses["loss_cls"] > 0
