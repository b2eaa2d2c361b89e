"""KeypointRCNNDetector: torchvision's model, number for number."""

from __future__ import annotations

import pytest
import torch
import torchvision

from drivetrain.errors import ModelError
from drivetrain.modeling import build_model
from drivetrain.structures import Boxes

NAMES = {
    "loss_rpn_cls": "loss_objectness",
    "loss_rpn_loc": "loss_rpn_box_reg",
    "loss_cls": "loss_classifier",
    "loss_box_reg": "loss_box_reg",
    "loss_keypoint": "loss_keypoint",
}
SIZES = ((64, 96), (64, 96))


def test_losses_equal_torchvisions(make_cfg, make_batch, add_targets, as_torchvision_would) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("keypoint_rcnn_tiny", MODEL__NUM_KEYPOINTS=4))
    batch = add_targets(make_batch(*SIZES, boxes=5))
    batch[1]["instances"] = batch[1]["instances"][:0]
    expected = as_torchvision_would(model, batch, shift=1)
    torch.manual_seed(5)
    got = model(batch)
    assert set(got) == set(NAMES)
    for name, theirs in NAMES.items():
        assert got[name].item() == pytest.approx(expected[theirs].item(), rel=1e-4, abs=1e-6), name
    sum(got.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_without_objects_train(make_cfg, make_batch, add_targets) -> None:
    model = build_model(make_cfg("keypoint_rcnn_tiny", MODEL__NUM_KEYPOINTS=4))
    for keypoints in (4, 0):  # 0: as when nothing tells their number
        losses = model(add_targets(make_batch(*SIZES, boxes=0), keypoints))
        assert losses["loss_keypoint"].item() == 0
        sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_keypoints_equal_torchvisions(make_cfg, make_batch, as_torchvision_would) -> None:
    torch.manual_seed(0)
    cfg = make_cfg(
        "keypoint_rcnn_tiny",
        MODEL__NUM_KEYPOINTS=4,
        MODEL__SCORE_THRESH_TEST=0.001,
        TEST__DETECTIONS_PER_IMAGE=20,
    )
    model = build_model(cfg).eval()
    batch = make_batch(*SIZES)
    with torch.no_grad():
        expected, got = as_torchvision_would(model, batch), model(batch)
    for theirs, ours in zip(expected, got, strict=True):
        instances = ours["instances"]
        nonempty = Boxes(theirs["boxes"]).nonempty()
        points = instances.pred_keypoints
        assert points.shape == (len(instances), 4, 3) and len(points) > 5
        # The originals are twice as large as the images.
        assert torch.allclose(points[..., :2], 2 * theirs["keypoints"][nonempty][..., :2], atol=1e-2)
        assert (points[..., 2] > 0).all() and (points[..., 2] <= 1).all()


def test_score_is_the_probability_of_the_place(make_cfg, make_batch) -> None:
    model = build_model(make_cfg("keypoint_rcnn_tiny", MODEL__NUM_KEYPOINTS=2)).eval()
    box = torch.tensor([[8.0, 4.0, 64.0, 60.0]])  # as large as a heat map
    model.box_detections = lambda images: (
        [{"boxes": box, "scores": torch.ones(1), "labels": torch.ones(1).long()}],
        {},
    )
    maps = torch.zeros(1, 2, 56, 56)
    maps[0, 1, 20, 30:34] = 20  # four cells, all but certain together
    model._heat_maps = lambda features, boxes, images: maps
    flat, peaked = model(make_batch((64, 96)))[0]["instances"].pred_keypoints[0]
    assert flat[2].item() == pytest.approx(1 / 56**2)
    assert peaked[2].item() == pytest.approx(1 / 4, rel=1e-4)
    # The middle of the first of these cells, in the original of twice the size.
    assert peaked[:2].tolist() == pytest.approx([2 * (8 + 30.5), 2 * (4 + 20.5)])


def test_standard_model_has_torchvisions_weights(make_cfg) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.detection.keypointrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=2, num_keypoints=17
        ).state_dict()
    cfg = make_cfg("keypoint_rcnn_resnet50_fpn", MODEL__NUM_CLASSES=1, MODEL__NUM_KEYPOINTS=17)
    ours = build_model(cfg).state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


def test_what_is_wrong_with_keypoints_is_said(make_cfg, make_batch, add_targets) -> None:
    with pytest.raises(ModelError, match=r"MODEL.NUM_KEYPOINTS is 0, but 'keypoint_rcnn_tiny' needs .*keypoint_names"):
        build_model(make_cfg("keypoint_rcnn_tiny"))
    model = build_model(make_cfg("keypoint_rcnn_tiny", MODEL__NUM_KEYPOINTS=17))
    batch = make_batch((64, 64))
    with pytest.raises(ModelError, match=r"0.jpg have None as gt_keypoints: annotate .* have MODEL.TARGETS name them"):
        model(batch)
    with pytest.raises(ModelError, match="0.jpg have 4 keypoints each, but the model has 17: set MODEL.NUM_KEYPOINTS"):
        model(add_targets(batch))
