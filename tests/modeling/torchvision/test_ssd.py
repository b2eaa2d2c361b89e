"""SSD: torchvision's SSD300, and its parts on any backbone."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling import build_model
from drivetrain.modeling.torchvision.ssd import _fitted
from drivetrain.structures import Boxes


class Recorded(nn.Module):
    """Gives a backbone's feature maps of one batch again: VGG16's take half a second."""

    def __init__(self, backbone: nn.Module, images: torch.Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            self.levels = backbone(images)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.levels


def test_ssd300_is_torchvisions(make_cfg, make_batch, as_torchvision_would) -> None:
    torch.manual_seed(0)
    values = {"SCORE_THRESH_TEST": 0.01, "PIXEL_MEAN": [123.0, 117.0, 104.0], "PIXEL_STD": [1.0, 1.0, 1.0]}
    model = build_model(make_cfg("ssd300_vgg16", **{f"MODEL__{key}": value for key, value in values.items()}))
    with torch.device("meta"):
        weights = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4)
    assert {n: v.shape for n, v in model.state_dict().items()} == {n: v.shape for n, v in weights.state_dict().items()}
    assert (model.topk_candidates, model.side) == (weights.topk_candidates, weights.transform.fixed_size[0])
    batch = make_batch((300, 300), boxes=4)
    model.backbone = Recorded(model.backbone, model.prepare(batch).tensor)
    with torch.no_grad():
        losses, got = as_torchvision_would(model, batch, shift=1), model(batch)
        model.eval()
        expected, found = as_torchvision_would(model, batch)[0], model(batch)[0]["instances"]
    assert got["loss_cls"].item() == pytest.approx(losses["classification"].item(), rel=1e-4)
    assert got["loss_box_reg"].item() == pytest.approx(losses["bbox_regression"].item(), rel=1e-4)
    kept = Boxes(expected["boxes"]).nonempty()
    assert len(found) > 10
    assert torch.allclose(found.scores, expected["scores"][kept], atol=1e-5)
    assert torch.allclose(found.pred_boxes.tensor, 2 * expected["boxes"][kept], atol=0.05)
    assert torch.equal(found.pred_classes, expected["labels"][kept] - 1)


def test_losses_on_another_backbone_equal_torchvisions(make_cfg, make_batch, as_torchvision_would) -> None:
    torch.manual_seed(0)
    model = build_model(make_cfg("ssd_tiny"))
    batch = make_batch((64, 96), (64, 96), boxes=3)
    batch[1]["instances"] = batch[1]["instances"][:0]
    expected = as_torchvision_would(model, batch, shift=1)
    got = model(batch)
    assert got["loss_cls"].item() == pytest.approx(expected["classification"].item(), rel=1e-4)
    assert got["loss_box_reg"].item() == pytest.approx(expected["bbox_regression"].item(), rel=1e-4)


def test_anchors_are_pixels_whatever_the_image(make_cfg) -> None:
    model = build_model(make_cfg("ssd_tiny", MODEL__ANCHOR_GENERATOR__SIZES=[[16], [32], [64]]))
    for size in ((64, 96), (128, 128)):
        levels = list(model.backbone(torch.zeros(2, 3, *size)).values())
        assert [tuple(level.shape[-2:]) for level in levels] == [(size[0] // s, size[1] // s) for s in (8, 16, 32)]
    anchors = model.anchor_generator.cell_anchors
    areas = [((a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])).sqrt() for a in anchors]
    assert [round(float(a.mean())) for a in areas] == [16, 32, 64]


def test_a_network_of_one_size_sees_larger_images_scaled_down_with_their_boxes(make_cfg, make_batch) -> None:
    assert _fitted(torch.zeros(3, 400, 640), 320).shape == (3, 200, 320)
    assert _fitted(torch.zeros(3, 100, 40), 320).shape == (3, 100, 40)
    model = build_model(make_cfg("ssdlite"))
    batch = make_batch((100, 40), (400, 640))
    images = model.prepare(batch)
    assert images.tensor.shape == (2, 3, 320, 320)
    targets = model._targets(batch, images.image_sizes)
    assert torch.equal(targets[0]["boxes"], batch[0]["instances"].gt_boxes.tensor)
    assert torch.allclose(targets[1]["boxes"], batch[1]["instances"].gt_boxes.tensor / 2)
    # The small image, of whole numbers, does not round the one that was interpolated.
    assert torch.equal(model.prepare(batch[1:]).tensor[0], images.tensor[1])


def test_options_that_do_not_fit(make_cfg) -> None:
    with pytest.raises(ModelError, match=r"'ssd300_vgg16' is one fixed network and does not take MODEL.HEAD.NUM_CONVS"):
        build_model(make_cfg("ssd300_vgg16", MODEL__HEAD__NUM_CONVS=2))
    with pytest.raises(ModelError, match="VGG16 has no norm"):
        build_model(make_cfg("ssd", MODEL__BACKBONE__NORM="FrozenBN"))
    with pytest.raises(ModelError, match=r"needs MODEL.ANCHOR_GENERATOR.SIZES.*\(\) and 0 were received"):
        build_model(make_cfg("ssd", MODEL__BACKBONE__NAME="resnet18"))
