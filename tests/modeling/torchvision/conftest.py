"""Running torchvision's own forward on an adapted detector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from drivetrain.structures import BitMasks, Instances


def target(instances: Instances, shift: int) -> dict[str, Any]:
    """An image's targets in torchvision's form."""
    found = {"boxes": instances.gt_boxes.tensor, "labels": instances.gt_classes + shift}
    if instances.has("gt_masks"):
        found["masks"] = BitMasks.from_polygon_masks(instances.gt_masks, *instances.image_size).tensor.to(torch.uint8)
    if instances.has("gt_keypoints"):
        found["keypoints"] = instances.gt_keypoints.tensor
    return found


@pytest.fixture
def as_torchvision_would():
    """``run(model, batch)``: what torchvision's forward gives for images of one size, its losses or detections."""

    def run(model: nn.Module, batch: list[dict[str, Any]], shift: int = 0) -> Any:
        theirs = next(kind for kind in type(model).__mro__ if kind.__module__.startswith("torchvision."))
        mean, std = ((values.flatten() / 255).tolist() for values in (model.preprocess.mean, model.preprocess.std))
        sides = sorted(batch[0]["image"].shape[-2:])
        # In evaluation mode it draws no size from the generator that the model samples with, and pastes masks.
        divisor = model.preprocess.size_divisibility
        model.transform = GeneralizedRCNNTransform(*sides, mean, std, size_divisible=divisor).eval()
        images = [entry["image"].float() / 255 for entry in batch]
        targets = [target(entry["instances"], shift) for entry in batch]
        try:
            torch.manual_seed(5)
            return theirs.forward(model, images, targets if model.training else None)
        finally:
            del model.transform

    return run
