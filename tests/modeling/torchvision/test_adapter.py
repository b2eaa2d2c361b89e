"""What all adapted detectors do with batches, targets and detections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling import build_model, check_losses, check_outputs
from drivetrain.structures import Boxes, Instances

NAMES = [
    *("fcos_tiny", "retinanet_tiny", "faster_rcnn_tiny", "ssd_tiny", "ssdlite"),
    *("mask_rcnn_tiny", "keypoint_rcnn_tiny"),
]


@pytest.fixture
def model(request, make_cfg):
    torch.manual_seed(0)
    built = build_model(make_cfg(request.param, MODEL__SCORE_THRESH_TEST=0.001, MODEL__NUM_KEYPOINTS=4))
    built.name = request.param
    return built


@pytest.fixture
def batch_of(make_batch, add_targets):
    """``make_batch`` with targets of every kind."""

    def make(*sizes: tuple[int, int], **options: int) -> list[dict[str, Any]]:
        return add_targets(make_batch(*sizes, **options))

    return make


def last_classifier(model: nn.Module) -> tuple[list[nn.Module], int]:
    """The layers whose outputs are class scores, and how many come first for the background."""
    if hasattr(model, "roi_heads"):
        return [model.roi_heads.box_predictor.cls_score], 1
    logits = model.head.classification_head
    if hasattr(logits, "cls_logits"):
        return [logits.cls_logits], 0
    return [block[1] if isinstance(block, nn.Sequential) else block for block in logits.module_list], 1


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_losses_are_finite_and_reach_every_parameter(model, batch_of) -> None:
    losses = model(batch_of((64, 96), (96, 64)))
    check_losses(losses)
    assert all(name.startswith("loss_") for name in losses)
    assert {"loss_cls", "loss_box_reg"} <= set(losses)
    assert all(torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_images_without_objects_train(model, batch_of) -> None:
    batch = batch_of((64, 64), (64, 64))
    batch[0]["instances"] = batch[0]["instances"][:0]
    for entries in (batch, [batch[0], batch[0]]):
        losses = model(entries)
        assert all(torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_outputs_are_instances_in_the_original_image(model, batch_of) -> None:
    batch = batch_of((64, 96), (96, 64))
    del batch[1]["height"], batch[1]["width"]  # then the image itself is the original
    with torch.no_grad():
        outputs = model.eval()(batch)
    check_outputs(outputs, batch)
    for output, (height, width) in zip(outputs, ((128, 192), (96, 64)), strict=True):
        instances = output["instances"]
        assert instances.image_size == (height, width)
        assert 0 < len(instances) <= 100
        assert isinstance(instances.pred_boxes, Boxes)
        assert instances.pred_boxes.nonempty().all()
        assert (instances.pred_boxes.tensor >= 0).all()
        assert (instances.pred_boxes.tensor <= torch.tensor([width, height] * 2)).all()
        assert instances.pred_classes.dtype == torch.int64
        assert instances.pred_classes.unique().tolist() in ([0], [0, 1], [0, 1, 2], [0, 2], [1], [1, 2], [2])
        assert (instances.scores.diff() <= 0).all()
        if model.name == "mask_rcnn_tiny":
            assert instances.pred_masks.shape == (len(instances), height, width)
        if model.name == "keypoint_rcnn_tiny":
            assert instances.pred_keypoints.shape == (len(instances), 4, 3)
    # The right and lower half of an image of twice the size are in use.
    assert outputs[0]["instances"].pred_boxes.tensor[:, 2].max() > 96


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_a_batch_equals_its_images_one_by_one(model, batch_of) -> None:
    batch = batch_of((64, 96), (100, 64), (64, 90), boxes=0)
    with torch.no_grad():
        together = model.eval()(batch)
        alone = [model([entry])[0] for entry in batch]
    for a, b in zip(together, alone, strict=True):
        a, b = a["instances"], b["instances"]
        assert len(a) == len(b)
        # Where scores are equal but for rounding, order may differ.
        assert torch.allclose(a.scores, b.scores, atol=1e-5)
        assert torch.allclose(a.pred_boxes.area().sort().values, b.pred_boxes.area().sort().values, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("model", NAMES, indirect=True)
@pytest.mark.parametrize("chosen", [0, 2])
def test_the_class_that_is_trained_is_the_class_that_is_predicted(model, batch_of, chosen) -> None:
    layers, background = last_classifier(model)
    for layer in layers:
        outputs = layer.bias.numel() // (3 + background) if background or layer.bias.numel() > 3 else 1
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.bias.view(outputs, -1).fill_(-4)
            layer.bias.view(outputs, -1)[:, chosen + background] = 4
    batch = batch_of((64, 64), (64, 64), boxes=3)
    loss = {}
    for label in range(3):
        for entry in batch:
            entry["instances"].gt_classes = torch.full((3,), label)
        torch.manual_seed(1)  # which boxes are sampled
        loss[label] = model(batch)["loss_cls"].item()
    assert min(loss, key=loss.__getitem__) == chosen
    with torch.no_grad():
        found = model.eval()(batch)[0]["instances"]
    assert found.pred_classes[0] == chosen
    assert (found.pred_classes[found.scores > 0.5] == chosen).all()


@pytest.mark.parametrize("model", ["fcos_tiny"], indirect=True)
def test_targets_follow_the_image(model) -> None:
    image = torch.zeros(3, 50, 80, dtype=torch.uint8)
    boxes = Boxes([[0, 0, 40, 100], [10, 10, 10, 30], [20, 20, 60, 80]])
    instances = Instances((100, 160), gt_boxes=boxes, gt_classes=torch.tensor([2, 1, 0]))
    target = model._target({"image": image, "instances": instances}, (50, 80))
    # Given for twice the size, and without the box that has no area.
    assert target["boxes"].tolist() == [[0, 0, 20, 50], [10, 10, 30, 40]]
    assert target["labels"].tolist() == [2, 0]


@pytest.mark.parametrize("model", ["fcos_tiny"], indirect=True)
def test_what_is_wrong_with_a_batch_is_said(model, batch_of) -> None:
    batch = batch_of((64, 64))
    with pytest.raises(ModelError, match="empty"):
        model([])
    with pytest.raises(ModelError, match=r"\(3, H, W\)"):
        model.eval()([{}])
    model.train()
    batch[0]["instances"].gt_classes = torch.tensor([1, 3])
    with pytest.raises(ModelError, match=r"0.jpg has classes \[1, 3\], but the model has 3"):
        model(batch)
    del batch[0]["instances"]
    with pytest.raises(ModelError, match=r"'instances' with gt_boxes and gt_classes, but that of 0.jpg has None"):
        model(batch)


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_thresholds_apply(model, batch_of, make_cfg) -> None:
    batch = batch_of((320, 320))
    if model.name == "fcos_tiny":  # whose boxes have no area at random weights, and are left out
        nn.init.ones_(model.head.regression_head.bbox_reg.bias)
    values = {"MODEL__NUM_KEYPOINTS": 4, "MODEL__SCORE_THRESH_TEST": 0.001}
    strict = build_model(make_cfg(model.name, **values, TEST__DETECTIONS_PER_IMAGE=2)).eval()
    strict.load_state_dict(model.state_dict())
    none = build_model(make_cfg(model.name, **{**values, "MODEL__SCORE_THRESH_TEST": 1.0})).eval()
    with torch.no_grad():
        assert len(strict(batch)[0]["instances"]) == 2
        assert len(none(batch)[0]["instances"]) == 0
