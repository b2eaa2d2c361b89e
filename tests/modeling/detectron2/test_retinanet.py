"""RetinaNet, against what detectron2 gave for the same weights and images."""

from __future__ import annotations

import pytest
import torch

from drivetrain.modeling.detectron2 import RetinaNet, build_detectron2_model

from .conftest import batch_of, config, recorded
from .test_rcnn import RELATIVE, close


def test_everything_agrees() -> None:
    reference = recorded("retinanet")
    cfg = config("retinanet")
    cfg.merge_from_list([part for item in reference["overrides"].items() for part in item])
    model = build_detectron2_model(cfg)
    assert isinstance(model, RetinaNet)
    model.load_state_dict(reference["weights"])  # which have no loss_normalizer
    assert [name for name in model.state_dict() if name != "loss_normalizer"] == list(reference["weights"])
    batch = batch_of(reference["inputs"])
    with torch.no_grad():
        outputs = model.eval()(batch)
        features = model.backbone(model.preprocess(batch).tensor)
    assert all(close(features[name], expected) for name, expected in reference["features"].items())
    for output, expected in zip(outputs, reference["outputs"], strict=True):
        found = output["instances"]
        assert close(found.pred_boxes.tensor, expected["boxes"]) and close(found.scores, expected["scores"])
        assert torch.equal(found.pred_classes, expected["classes"])
    losses = model.train()(batch)
    for name, expected in reference["losses"].items():
        assert losses[name].item() == pytest.approx(float(expected), rel=RELATIVE), name


def test_batch_norms_of_the_head_see_each_level_alone() -> None:
    model = build_detectron2_model(config("retinanet", MODEL__RETINANET__NORM="BN", MODEL__RETINANET__NUM_CONVS=1))
    entry = {"image": torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8), "height": 128, "width": 128}
    truth = {"gt_boxes": torch.tensor([[10.0, 10.0, 50.0, 50.0]]), "gt_classes": torch.tensor([1])}
    model(batch_of([{**entry, **truth}, {**entry, **truth}]))
    state = model.state_dict()
    means = [state[f"head.cls_subnet.1.{level}.running_mean"] for level in range(5)]
    assert len({tuple(mean.tolist()) for mean in means}) == 5 and state["head.cls_subnet.1.weight"].shape == (32,)


def test_the_normalizer_follows_the_number_of_objects_anchors_and_is_saved() -> None:
    model = build_detectron2_model(config("retinanet"))
    entry = {
        "image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8),
        "height": 64,
        "width": 64,
        "gt_boxes": torch.tensor([[10.0, 10.0, 50.0, 50.0]]),
        "gt_classes": torch.tensor([1]),
    }
    model(batch_of([entry]))
    first = float(model.loss_normalizer)
    assert 90 < first < 100
    model(batch_of([entry]))
    assert float(model.loss_normalizer) == pytest.approx(0.9 * first + (first - 90), abs=1e-3)
    other = build_detectron2_model(config("retinanet"))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.loss_normalizer, model.loss_normalizer)
