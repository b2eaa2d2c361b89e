"""FCOSDetector: torchvision's model, number for number."""

from __future__ import annotations

import pytest
import torch
import torchvision

from drivetrain.errors import ModelError
from drivetrain.modeling import build_model
from drivetrain.structures import Boxes, Instances, pairwise_iou

NAMES = {"loss_cls": "classification", "loss_box_reg": "bbox_regression", "loss_centerness": "bbox_ctrness"}
SIZES = ((64, 96), (64, 96))


def test_losses_equal_torchvisions(make_cfg, make_batch, as_torchvision_would) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("fcos_tiny"))
    batch = make_batch(*SIZES, boxes=5)
    batch[1]["instances"] = batch[1]["instances"][:0]
    expected = as_torchvision_would(model, batch, shift=0)
    torch.manual_seed(5)
    got = model(batch)
    assert set(got) == set(NAMES)
    for name, theirs in NAMES.items():
        assert got[name].item() == pytest.approx(expected[theirs].item(), rel=1e-4, abs=1e-6), name


def test_detections_equal_torchvisions(make_cfg, make_batch, as_torchvision_would) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("fcos_tiny", MODEL__SCORE_THRESH_TEST=0.001)).eval()
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
            (theirs["labels"] - 0).bincount(minlength=3).tolist()
        )


def test_standard_model_has_torchvisions_weights(make_cfg) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.detection.fcos_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=3
        ).state_dict()
    ours = build_model(make_cfg("fcos_resnet50_fpn")).state_dict()
    assert {n: v.shape for n, v in ours.items()} == {n: v.shape for n, v in theirs.items()}


def test_strides_are_the_sizes(make_cfg) -> None:
    model = build_model(make_cfg("fcos_tiny", MODEL__ANCHOR_GENERATOR__SIZES=[[4], [8], [16]]))
    assert model.anchor_generator.sizes == ((4,), (8,), (16,))
    assert list(model.backbone(torch.rand(1, 3, 64, 64))) == ["0", "1", "2"]
    for wrong in ([[8], [17]], [[8, 10], [16]]):
        with pytest.raises(ModelError, match="stride of each level"):
            build_model(make_cfg("fcos_tiny", MODEL__ANCHOR_GENERATOR__SIZES=wrong))
    with pytest.raises(ModelError, match="OUT_CHANNELS is 48"):
        build_model(make_cfg("fcos_tiny", MODEL__FPN__OUT_CHANNELS=48))


def test_learns_one_image_and_gives_boxes_in_the_original(make_cfg) -> None:
    """Overfits one image shown at 2/5 of its size (3/5 in height) and finds its boxes in the original's pixels."""
    torch.manual_seed(0)
    model = build_model(make_cfg("fcos_tiny"))
    boxes = Boxes([[10, 12, 50, 44], [70, 20, 110, 80], [30, 60, 60, 90]])
    classes = torch.tensor([2, 0, 1])
    image = torch.full((3, 96, 128), 90, dtype=torch.uint8)
    for box, label in zip(boxes.tensor.int().tolist(), classes.tolist(), strict=True):
        image[label, box[1] : box[3], box[0] : box[2]] = 230
    instances = Instances((96, 128), gt_boxes=boxes, gt_classes=classes)
    entry = {"image": image, "instances": instances, "height": 160, "width": 320}
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(70):
        optimizer.zero_grad()
        sum(model([entry]).values()).backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval()([entry])[0]["instances"]
    found = found[found.scores > 0.3]
    truth = boxes.clone()
    truth.scale(320 / 128, 160 / 96)
    best, which = pairwise_iou(truth, found.pred_boxes).max(dim=1)
    assert best.min() > 0.8
    assert found.pred_classes[which].tolist() == classes.tolist()
