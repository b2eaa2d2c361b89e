"""Two-stage detectors, against what detectron2 gave for the same weights and images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.ops import roi_align

from drivetrain.modeling.detectron2 import build_detectron2_model
from drivetrain.modeling.detectron2.rcnn import GeneralizedRCNN

from .conftest import batch_of, config, recorded

RELATIVE = 1e-4


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= RELATIVE * theirs.abs().max())


@pytest.fixture(scope="module", params=["faster", "mask", "keypoint"])
def pair(request: pytest.FixtureRequest) -> tuple[GeneralizedRCNN, dict[str, Any]]:
    reference = recorded(request.param)
    cfg = config(request.param)
    cfg.merge_from_list([part for item in reference["overrides"].items() for part in item])
    model = build_detectron2_model(cfg)
    assert isinstance(model, GeneralizedRCNN)
    model.load_state_dict(reference["weights"])
    return model, reference


def test_weights_have_the_same_names_in_the_same_order(pair: tuple[GeneralizedRCNN, dict[str, Any]]) -> None:
    model, reference = pair
    assert list(model.state_dict()) == list(reference["weights"])


@torch.no_grad()
def test_features_and_proposals(pair: tuple[GeneralizedRCNN, dict[str, Any]]) -> None:
    model, reference = pair
    model.eval()
    images = model.preprocess(batch_of(reference["inputs"]))
    assert torch.equal(images.tensor, reference["padded"])
    features = model.backbone(images.tensor)
    assert features.keys() == reference["features"].keys()
    assert all(close(features[name], expected) for name, expected in reference["features"].items())
    proposals, _ = model.proposal_generator(features, images.image_sizes, None)
    for (boxes, logits), expected in zip(proposals, reference["proposals"], strict=True):
        assert close(boxes, expected["boxes"]) and close(logits, expected["logits"])


@torch.no_grad()
def test_predictions(pair: tuple[GeneralizedRCNN, dict[str, Any]]) -> None:
    model, reference = pair
    outputs = model.eval()(batch_of(reference["inputs"]))
    for output, expected in zip(outputs, reference["outputs"], strict=True):
        found = output["instances"]
        assert close(found.pred_boxes.tensor, expected["boxes"]) and close(found.scores, expected["scores"])
        assert torch.equal(found.pred_classes, expected["classes"])
        if "masks" in expected:
            assert (found.pred_masks != expected["masks"]).sum() <= 1e-4 * expected["masks"].sum()
        if "keypoints" in expected:
            assert close(found.pred_keypoints, expected["keypoints"])


def test_losses(pair: tuple[GeneralizedRCNN, dict[str, Any]]) -> None:
    model, reference = pair
    losses = model.train()(batch_of(reference["inputs"]))
    assert losses.keys() == reference["losses"].keys()
    for name, expected in reference["losses"].items():
        assert losses[name].item() == pytest.approx(float(expected), rel=RELATIVE), name
    sum(losses.values()).backward()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum())]
    model.zero_grad()
    assert unused == []


def test_an_image_without_objects_has_losses() -> None:
    for kind in ("mask", "keypoint"):
        model = build_detectron2_model(config(kind))
        batch = [{"image": torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)}]
        empty = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
        entry = {"gt_boxes": empty[0], "gt_classes": empty[1], "height": 64, "width": 96, **batch[0]}
        entry |= {"gt_polygons": []} if kind == "mask" else {"gt_keypoints": torch.zeros(0, 17, 3)}
        losses = model(batch_of([entry]))
        total = sum(losses.values())
        assert bool(torch.isfinite(total)) and losses["loss_box_reg"] == 0
        total.backward()


def loaded(kind: str, weights: dict[str, torch.Tensor], **changes: Any) -> GeneralizedRCNN:
    cfg = config(kind)
    cfg.merge_from_list([part for item in recorded(kind)["overrides"].items() for part in item])
    cfg.merge_from_list([part for key, value in changes.items() for part in (key.replace("__", "."), value)])
    model = build_detectron2_model(cfg)
    assert isinstance(model, GeneralizedRCNN)
    model.load_state_dict(weights)
    return model


def test_the_other_order_of_colours_gives_what_detectron2_gave() -> None:
    """Weights of the first convolution, means and images all in the order RGB: nothing else changes."""
    reference = recorded("faster")
    stem = "backbone.bottom_up.stem.conv1.weight"
    weights = {**reference["weights"], stem: reference["weights"][stem].flip(1)}
    means = [123.675, 116.28, 103.53]
    model = loaded("faster", weights, INPUT__FORMAT="RGB", MODEL__PIXEL_MEAN=means)
    batch = batch_of(reference["inputs"])
    for entry in batch:
        entry["image"] = entry["image"].flip(0)
    for name, value in model(batch).items():
        assert value.item() == pytest.approx(float(reference["losses"][name]), rel=RELATIVE)
    with torch.no_grad():
        outputs = model.eval()(batch)
    for output, expected in zip(outputs, reference["outputs"], strict=True):
        assert close(output["instances"].pred_boxes.tensor, expected["boxes"])
        assert close(output["instances"].scores, expected["scores"])


def test_one_box_and_one_mask_for_all_classes_are_those_of_classes_that_are_all_alike() -> None:
    """What each class has of its own was compared with detectron2; here every class has that of the first."""
    reference = recorded("mask")
    alike, single = dict(reference["weights"]), dict(reference["weights"])
    for name, rows in (("box_predictor.bbox_pred", 4), ("mask_head.predictor", 1)):
        for kind in ("weight", "bias"):
            key = f"roi_heads.{name}.{kind}"
            own = reference["weights"][key]
            single[key] = own[:rows]
            alike[key] = own[:rows].repeat(len(own) // rows, *[1] * (own.ndim - 1))
    agnostic = {"MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True, "MODEL__ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": True}
    many, one = loaded("mask", alike), loaded("mask", single, **agnostic)
    batch = batch_of(reference["inputs"])
    expected = many(batch)
    for name, value in one(batch).items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-6), name
    with torch.no_grad():
        found = [output["instances"] for output in one.eval()(batch)]
        wanted = [output["instances"] for output in many.eval()(batch)]
    assert sum(map(len, found)) > 0
    for ours, theirs in zip(found, wanted, strict=True):
        assert close(ours.pred_boxes.tensor, theirs.pred_boxes.tensor) and close(ours.scores, theirs.scores)
        assert torch.equal(ours.pred_masks, theirs.pred_masks)


@torch.no_grad()
def test_c4_runs_the_last_stage_on_every_box() -> None:
    changes = {"MODEL__ROI_HEADS__NAME": "Res5ROIHeads", "MODEL__BACKBONE__NAME": "build_resnet_backbone"}
    cfg = config("faster", **changes, MODEL__ROI_BOX_HEAD__POOLER_RESOLUTION=14)
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32, 64]]
    torch.manual_seed(0)
    model = build_detectron2_model(cfg).eval()
    images = model.preprocess([{"image": torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)}])
    seen: list[torch.Tensor] = []
    model.roi_heads.box_predictor.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.boxes(images)
    features = model.backbone(images.tensor)
    (boxes, _) = model.proposal_generator(features, images.image_sizes, None)[0][0]
    rows = torch.cat((torch.zeros(len(boxes), 1), boxes), dim=1)
    cut = roi_align(features["res4"], rows, (14, 14), 1 / 16, 0, aligned=True)
    for block in model.roi_heads.res5:
        cut = block(cut)
    assert cut.shape[-2:] == (7, 7) and torch.allclose(seen[0], cut.mean(dim=(2, 3)), atol=1e-5)
