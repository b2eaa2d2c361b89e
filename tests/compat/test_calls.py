"""Parts of detectors, called in detectron2's form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from drivetrain.compat.calls import (
    RPN,
    ROIHeads,
    ROIPooler,
    as_class,
    given_boxes,
    refuse_overrides,
    with_boxes,
    without_config,
)
from drivetrain.compat.config import get_cfg
from drivetrain.compat.modeling import GeneralizedRCNN
from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2 import pooler
from drivetrain.structures import BitMasks, Boxes, ImageList, Instances

SIZES = [(64, 80), (60, 70)]


@pytest.fixture
def model(small_cfg: Any) -> GeneralizedRCNN:
    torch.manual_seed(0)
    return GeneralizedRCNN(small_cfg("MODEL.MASK_ON", True, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0))


def prepared(model: GeneralizedRCNN) -> tuple[ImageList, dict[str, Tensor]]:
    images = ImageList(torch.randn(2, 3, 64, 96), SIZES)
    return images, model.backbone(images.tensor)


def truth(size: tuple[int, int]) -> Instances:
    masks = torch.zeros(1, *size, dtype=torch.bool)
    masks[:, 10:30, 5:25] = True
    boxes = Boxes(torch.tensor([[5.0, 10.0, 25.0, 30.0]]))
    return Instances(size, gt_boxes=boxes, gt_classes=torch.tensor([1]), gt_masks=BitMasks(masks))


@torch.no_grad()
def test_in_evaluation_they_find_what_the_model_finds(model: GeneralizedRCNN) -> None:
    images, features = prepared(model.eval())
    proposals, none = model.proposal_generator(images, features)
    own, _ = model.proposal_generator(features, SIZES, None)
    assert none == {} and [p.image_size for p in proposals] == SIZES
    assert all(torch.equal(p.proposal_boxes.tensor, o[0]) for p, o in zip(proposals, own, strict=True))
    assert all(torch.equal(p.objectness_logits, o[1]) for p, o in zip(proposals, own, strict=True))
    found, none = model.roi_heads(images, features, proposals)
    assert none == {} and all(len(f) for f in found)
    for f, d in zip(found, model.detections(images), strict=True):
        assert torch.equal(f.pred_boxes.tensor, d.pred_boxes) and torch.equal(f.scores, d.scores)
        assert f.pred_masks.shape == (len(f), 1, 28, 28) and torch.equal(f.pred_masks[:, 0], d.pred_masks)


def test_in_training_they_give_the_losses_of_the_model(model: GeneralizedRCNN) -> None:
    images, features = prepared(model)
    objects = [truth(size) for size in SIZES]
    torch.manual_seed(1)
    proposals, first = model.proposal_generator(images, features, objects)
    given, second = model.roi_heads(images, features, proposals, objects)
    torch.manual_seed(1)
    expected = model.losses(images, objects)
    assert {**first, **second} == expected and set(expected) >= {"loss_mask", "loss_rpn_loc"}
    assert given == proposals
    with pytest.raises(ModelError, match="gt_instances is None: in training this part is called with the true objects"):
        model.proposal_generator(images, features)
    with pytest.raises(ModelError, match="targets is None"):
        model.roi_heads(images, features, proposals)


@torch.no_grad()
def test_masks_of_boxes_that_are_given(model: GeneralizedRCNN) -> None:
    images, features = prepared(model.eval())
    (one, other), _ = model.roi_heads(images, features, model.proposal_generator(images, features)[0])
    boxes_alone = [Instances(f.image_size, pred_boxes=f.pred_boxes, pred_classes=f.pred_classes) for f in (one, other)]
    again = model.roi_heads.forward_with_given_boxes(features, boxes_alone)
    assert torch.equal(again[0].pred_masks, one.pred_masks) and torch.equal(again[1].pred_masks, other.pred_masks)
    assert isinstance(again[0].pred_boxes, Boxes) and not boxes_alone[0].has("pred_masks")
    assert model.roi_heads.box_in_features == model.roi_heads.in_features == ("p2", "p3", "p4", "p5")


def test_a_pooler_takes_boxes_in_either_form() -> None:
    own = pooler.ROIPooler(3, [4], 2)
    cut = as_class(own, ROIPooler)
    boxes, maps = torch.tensor([[1.0, 2.0, 9.0, 14.0]]), [torch.randn(1, 2, 5, 6)]
    expected = own(maps, [boxes])
    assert torch.equal(cut(maps, [Boxes(boxes)]), expected) and torch.equal(cut(maps, [boxes]), expected)
    assert cut.output_size == (3, 3)


def test_as_another_class_it_has_the_same_weights() -> None:
    class Wider(torch.nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    layer = torch.nn.Linear(2, 1)
    wider = as_class(layer, Wider)
    assert wider.weight is layer.weight and torch.equal(wider(torch.ones(2)), 2 * layer(torch.ones(2)))


def test_forms_of_detections() -> None:
    found = Instances((8, 9), pred_boxes=torch.ones(2, 4), scores=torch.ones(2), pred_masks=torch.ones(2, 3, 3))
    theirs = with_boxes(found)
    assert isinstance(theirs.pred_boxes, Boxes) and theirs.pred_masks.shape == (2, 1, 3, 3)
    assert given_boxes(theirs).pred_boxes is theirs.pred_boxes.tensor and theirs.image_size == (8, 9)


def test_parts_take_no_config() -> None:
    class Part:
        @without_config
        def __init__(self, number: int, *, size: int = 1) -> None:
            self.numbers = (number, size)

    assert Part(3, size=4).numbers == (3, 4)
    for arguments in ((get_cfg(), 4), (get_cfg(),)):
        with pytest.raises(ModelError, match=r"Part takes no config here, .* GeneralizedRCNN\(cfg\) makes all parts"):
            Part(*arguments)
    with pytest.raises(ModelError, match="Part takes no config"):
        Part(cfg=get_cfg())  # type: ignore[call-arg]


def test_what_would_not_be_called() -> None:
    with pytest.raises(ModelError, match=r"Mine\.losses would not be called: .* than in detectron2; do this"):
        refuse_overrides(type("Mine", (), {"losses": 1}), ("losses",), "do this")
    for base, name in ((RPN, "forward"), (ROIHeads, "_forward_mask")):
        with pytest.raises(ModelError, match="META_ARCH_REGISTRY"):
            type("Mine", (base,), {name: lambda self: None})
