"""MaskRCNNDetector: torchvision's model, number for number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from drivetrain.errors import ModelError
from drivetrain.modeling import build_model
from drivetrain.structures import BitMasks, Boxes, rle_to_bitmask

NAMES = {
    "loss_rpn_cls": "loss_objectness",
    "loss_rpn_loc": "loss_rpn_box_reg",
    "loss_cls": "loss_classifier",
    "loss_box_reg": "loss_box_reg",
    "loss_mask": "loss_mask",
}
SIZES = ((64, 96), (64, 96))


@pytest.mark.parametrize("bitmaps", [False, True])
def test_losses_equal_torchvisions(make_cfg, make_batch, add_targets, as_torchvision_would, bitmaps) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("mask_rcnn_tiny"))
    batch = add_targets(make_batch(*SIZES, boxes=5))
    batch[1]["instances"] = batch[1]["instances"][:0]
    expected = as_torchvision_would(model, batch, shift=1)
    if bitmaps:
        batch = add_targets(batch, bitmaps=True)
    torch.manual_seed(5)
    got = model(batch)
    assert set(got) == set(NAMES)
    for name, theirs in NAMES.items():
        assert got[name].item() == pytest.approx(expected[theirs].item(), rel=1e-4, abs=1e-6), name
    sum(got.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_without_objects_train(make_cfg, make_batch, add_targets) -> None:
    model = build_model(make_cfg("mask_rcnn_tiny"))
    losses = model(add_targets(make_batch(*SIZES, boxes=0)))
    assert losses["loss_mask"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_masks_equal_torchvisions(make_cfg, make_batch, as_torchvision_would) -> None:
    torch.manual_seed(0)
    cfg = make_cfg("mask_rcnn_tiny", MODEL__SCORE_THRESH_TEST=0.001)
    model = build_model(cfg).eval()
    batch = make_batch(*SIZES)
    for entry in batch:
        entry["height"], entry["width"] = SIZES[0]  # whose pixels torchvision pastes into
    with torch.no_grad():
        expected, got = as_torchvision_would(model, batch), model(batch)
        model.mask_format = "rle"
        encoded = model(batch)
    for theirs, ours, runs in zip(expected, got, encoded, strict=True):
        instances = ours["instances"]
        nonempty = Boxes(theirs["boxes"]).nonempty()
        assert len(instances) > 10
        assert instances.pred_masks.dtype == torch.bool
        assert instances.pred_masks.shape == (len(instances), *SIZES[0])
        wanted = theirs["masks"][nonempty, 0] >= 0.5
        assert 0.01 < wanted.float().mean() < 0.99
        # Where a score is 0.5 but for rounding, a pixel may differ.
        assert (instances.pred_masks == wanted).float().mean() > 0.9999
        decoded = np.stack([rle_to_bitmask(mask) for mask in runs["instances"].pred_masks])
        assert np.array_equal(decoded, instances.pred_masks.numpy())


def test_masks_are_in_the_original_image(make_cfg, make_batch) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("mask_rcnn_tiny", MODEL__SCORE_THRESH_TEST=0.001)).eval()
    torch.nn.init.constant_(model.roi_heads.mask_predictor.mask_fcn_logits.bias, 9)  # all of the box is mask
    batch = make_batch((64, 96))
    with torch.no_grad():
        instances = model(batch)[0]["instances"]
    assert instances.pred_masks.shape == (len(instances), 128, 192)
    around = BitMasks(instances.pred_masks).get_bounding_boxes().tensor
    assert (
        around - instances.pred_boxes.tensor
    ).abs().max() < 6  # the box grows by half a cell of its mask, and a pixel


def test_standard_model_has_torchvisions_weights(make_cfg) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.detection.maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=4
        ).state_dict()
    ours = build_model(make_cfg("mask_rcnn_resnet50_fpn")).state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


def test_what_is_wrong_with_masks_is_said(make_cfg, make_batch, add_targets) -> None:
    model = build_model(make_cfg("mask_rcnn_tiny"))
    batch = make_batch((64, 64))
    with pytest.raises(ModelError, match=r"0.jpg have None as gt_masks: annotate .* have MODEL.TARGETS name them"):
        model(batch)
    batch = add_targets(batch, bitmaps=True)
    batch[0]["instances"].gt_masks = BitMasks(torch.zeros(2, 32, 64))
    with pytest.raises(ModelError, match="masks of 0.jpg are for an image of .* 32 x 64, but it has 64 x 64"):
        model(batch)
    with pytest.raises(ModelError, match="TEST.MASK_FORMAT 'png' is not one of 'bitmask', 'rle'"):
        build_model(make_cfg("mask_rcnn_tiny", TEST__MASK_FORMAT="png"))
