"""SSDLite: torchvision's model on a square of 320 pixels."""

from __future__ import annotations

import pytest
import torch
import torchvision

from drivetrain.errors import ModelError
from drivetrain.modeling import build_model


@pytest.fixture
def model(make_cfg):
    torch.manual_seed(0)
    return build_model(
        make_cfg(
            "ssdlite320_mobilenet_v3_large",
            MODEL__PIXEL_MEAN=[127.5] * 3,
            MODEL__PIXEL_STD=[127.5] * 3,
            MODEL__SCORE_THRESH_TEST=0.01,
            MODEL__NMS_THRESH_TEST=0.55,
        )
    )


def test_square_images_give_what_torchvision_gives(model, make_batch) -> None:
    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4, score_thresh=0.01, detections_per_img=100
    )
    theirs.load_state_dict(model.state_dict())
    batch = make_batch((320, 320), boxes=4)
    images = [batch[0]["image"].float() / 255]
    instances = batch[0]["instances"]
    targets = [{"boxes": instances.gt_boxes.tensor, "labels": instances.gt_classes + 1}]
    model.eval(), theirs.eval()
    with torch.no_grad():
        expected, found = theirs(images)[0], model(batch)[0]["instances"]
    assert torch.allclose(found.scores, expected["scores"], atol=1e-5)
    assert torch.allclose(found.pred_boxes.tensor, 2 * expected["boxes"], atol=0.05)
    assert torch.equal(found.pred_classes, expected["labels"] - 1)
    # Losses with fixed batch norm statistics, of which a single image has none worth the name.
    for net in (model, theirs):
        net.train()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    with torch.no_grad():
        losses, got = theirs(images, targets), model(batch)
    assert got["loss_cls"].item() == pytest.approx(losses["classification"].item(), rel=1e-4)
    assert got["loss_box_reg"].item() == pytest.approx(losses["bbox_regression"].item(), rel=1e-4)


def test_a_single_image_cannot_be_trained_on(model, make_batch) -> None:
    with pytest.raises(ModelError, match=r"raise SOLVER\.IMS_PER_BATCH"):
        model(make_batch((64, 64)))


def test_it_is_one_fixed_network(make_cfg) -> None:
    with pytest.raises(ModelError, match=r"does not take MODEL.HEAD.NUM_CONVS = 2, MODEL.ANCHOR_GENERATOR.SIZES"):
        build_model(make_cfg("ssdlite", MODEL__HEAD__NUM_CONVS=2, MODEL__ANCHOR_GENERATOR__SIZES=[[8]]))


def test_frozen_batch_norm(make_cfg) -> None:
    model = build_model(make_cfg("ssdlite", MODEL__BACKBONE__NORM="FrozenBN"))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.backbone.modules())
