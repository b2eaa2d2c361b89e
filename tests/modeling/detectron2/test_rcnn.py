"""Two-stage detectors, against what detectron2 gave for the same weights and images."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
    proposals, _ = model.proposal_generator(list(features.values()), images.image_sizes, None)
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
