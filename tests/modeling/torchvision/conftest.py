"""Running torchvision's own forward on an adapted detector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture
def as_torchvision_would():
    """``run(model, batch)``: what torchvision's forward gives for images of 64 x 96, its losses or detections."""

    def run(model: nn.Module, batch: list[dict[str, Any]], shift: int = 0) -> Any:
        theirs = type(model).__mro__[2]
        assert theirs.__module__.startswith("torchvision.")
        model.transform = GeneralizedRCNNTransform(64, 96, [m / 255 for m in MEAN], [s / 255 for s in STD])
        images = [entry["image"].float() / 255 for entry in batch]
        targets = [
            {"boxes": e["instances"].gt_boxes.tensor, "labels": e["instances"].gt_classes + shift} for e in batch
        ]
        try:
            torch.manual_seed(5)
            return theirs.forward(model, images, targets if model.training else None)
        finally:
            del model.transform

    return run
