"""From detections to outputs, and what a batch has to have."""

from __future__ import annotations

import pytest
import torch

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2 import build_detectron2_model
from drivetrain.modeling.detectron2.adapter import in_output_image
from drivetrain.structures import Boxes, Instances

from .conftest import config


def test_everything_is_scaled_and_cut_to_the_original_image() -> None:
    found = Instances(
        (50, 100),
        pred_boxes=torch.tensor([[10.0, 10.0, 110.0, 30.0], [100.0, 10.0, 120.0, 20.0]]),
        scores=torch.tensor([0.9, 0.8]),
        pred_classes=torch.tensor([1, 0]),
        pred_keypoints=torch.tensor([[[20.0, 10.0, 0.7]], [[0.0, 0.0, 0.1]]]),
        pred_masks=torch.ones(2, 14, 14),
    )
    out = in_output_image(found, 100, 300)
    assert out.image_size == (100, 300) and out.pred_boxes.tensor.tolist() == [[30, 20, 300, 60]]
    assert out.pred_classes.tolist() == [1]
    assert torch.allclose(out.pred_keypoints, torch.tensor([[[60.0, 20.0, 0.7]]]))
    assert out.pred_masks.shape == (1, 100, 300) and out.pred_masks[0, 21:59, 31:299].all()


def test_what_a_batch_lacks_is_said() -> None:
    model = build_detectron2_model(config("faster"))
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ModelError, match="the batch is empty"):
        model([])
    with pytest.raises(ModelError, match=r"gt_boxes and gt_classes, but that of a\.jpg has None"):
        model([{"image": image, "file_name": "a.jpg"}])
    wrong = Instances((32, 32), gt_boxes=Boxes([[0.0, 0, 9, 9]]), gt_classes=torch.tensor([3]))
    with pytest.raises(
        ModelError, match=r"has classes \[3\], but the model has 3, .*set MODEL\.ROI_HEADS\.NUM_CLASSES"
    ):
        model([{"image": image, "instances": wrong}])
