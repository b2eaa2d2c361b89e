"""RetinaNet, against what detectron2 gave for the same weights and images."""

from __future__ import annotations

import pytest
import torch

from drivetrain.modeling.detectron2 import RetinaNet, build_detectron2_model
from drivetrain.modeling.detectron2.retinanet import RetinaNetOptions, best_of_levels

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


def test_the_best_of_each_level() -> None:
    options = RetinaNetOptions(num_classes=2, score_thresh=0.5, topk_candidates=2)
    scores = [torch.tensor([[0.9, 0.1], [0.6, 0.7], [0.4, 0.8]]), torch.tensor([[0.2, 0.55]])]
    anchors = [
        torch.tensor([[k, k, k + 4.0, k + 4.0] for k in (0.0, 10.0, 20.0)]),
        torch.tensor([[5.0, 5.0, 9.0, 9.0]]),
    ]
    boxes, kept, kinds = best_of_levels(scores, [torch.zeros(3, 4), torch.zeros(1, 4)], anchors, options)
    assert kept.tolist() == pytest.approx([0.9, 0.8, 0.55])
    assert kinds.tolist() == [0, 1, 1] and boxes[:, 0].tolist() == [0, 20, 5]
