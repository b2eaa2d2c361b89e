"""FasterRCNNDetector: torchvision's model, number for number."""

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
}
SIZES = ((64, 96), (64, 96))


def test_losses_equal_torchvisions(make_cfg, make_batch, as_torchvision_would) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("faster_rcnn_tiny"))
    batch = make_batch(*SIZES, boxes=5)
    batch[1]["instances"] = batch[1]["instances"][:0]
    expected = as_torchvision_would(model, batch, shift=1)
    torch.manual_seed(5)
    got = model(batch)
    assert set(got) == set(NAMES)
    for name, theirs in NAMES.items():
        assert got[name].item() == pytest.approx(expected[theirs].item(), rel=1e-4, abs=1e-6), name


def test_detections_equal_torchvisions(make_cfg, make_batch, as_torchvision_would) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("faster_rcnn_tiny", MODEL__SCORE_THRESH_TEST=0.001)).eval()
    batch = make_batch(*SIZES)
    with torch.no_grad():
        expected, got = as_torchvision_would(model, batch), model(batch)
    for theirs, ours in zip(expected, got, strict=True):
        instances = ours["instances"]
        # Boxes without area, which random weights give, are left out.
        theirs = {name: value[Boxes(theirs["boxes"]).nonempty()] for name, value in theirs.items()}
        assert len(instances) > 10
        assert torch.allclose(instances.scores, theirs["scores"], atol=1e-5)
        # The originals are twice as large as the images.
        assert torch.allclose(instances.pred_boxes.area().sum(), 4 * Boxes(theirs["boxes"]).area().sum(), rtol=1e-3)
        assert instances.pred_classes.bincount(minlength=3).tolist() == (
            (theirs["labels"] - 1).bincount(minlength=3).tolist()
        )


def test_standard_model_has_torchvisions_weights(make_cfg) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.detection.fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=4
        ).state_dict()
    ours = build_model(make_cfg("faster_rcnn_resnet50_fpn")).state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


def test_options_that_do_not_fit(make_cfg) -> None:
    with pytest.raises(ModelError, match="at most one more"):
        build_model(make_cfg("faster_rcnn_tiny", MODEL__ANCHOR_GENERATOR__SIZES=[[8]] * 6))


def test_proposals_and_samples_are_torchvisions_where_nothing_is_said(make_cfg) -> None:
    tiny, standard = (build_model(make_cfg(f"faster_rcnn{n}", MODEL__BACKBONE__NAME="resnet18")) for n in ("_tiny", ""))
    assert standard.rpn._pre_nms_top_n == {"training": 2000, "testing": 1000}
    assert standard.roi_heads.fg_bg_sampler.batch_size_per_image == 512
    assert tiny.rpn._post_nms_top_n == {"training": 300, "testing": 300}
