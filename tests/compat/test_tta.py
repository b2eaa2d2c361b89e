"""Predictions on several variants of an image, joined."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.compat.schema import CompatRoot
from drivetrain.compat.tta import DatasetMapperTTA, GeneralizedRCNNWithTTA
from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.structures import Boxes, Instances


class BrightSpot(nn.Module):
    """Finds the box around the bright pixels of an image; on larger images it is surer of itself."""

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        outputs = []
        for entry in batch:
            image = entry["image"][0]
            rows, columns = (image > 128).nonzero(as_tuple=True)
            scale_x, scale_y = entry["width"] / image.shape[1], entry["height"] / image.shape[0]
            low = columns.min() * scale_x, rows.min() * scale_y
            box = [*low, (columns.max() + 1) * scale_x, (rows.max() + 1) * scale_y]
            found = Instances((entry["height"], entry["width"]), pred_boxes=Boxes(torch.tensor([box])))
            found.scores, found.pred_classes = torch.tensor([image.shape[0] / 1000]), torch.tensor([2])
            outputs.append({"instances": found})
        return outputs


def config(**keys: Any) -> CfgNode:
    cfg = CfgNode.from_schema(CompatRoot)
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = (40, 80), 200
    for key, value in keys.items():
        setattr(cfg.MODEL, key, value)
    return cfg


def entry() -> dict[str, Any]:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[:, 10:20, 40:55] = 255
    return {"image": image, "height": 80, "width": 120, "image_id": 1}


def test_the_variants() -> None:
    variants = DatasetMapperTTA(config())(entry())
    assert [(tuple(v["image"].shape[1:]), v["flipped"]) for v in variants] == [
        ((40, 60), False),
        ((40, 60), True),
        ((80, 120), False),
        ((80, 120), True),
    ]
    assert torch.equal(variants[1]["image"], variants[0]["image"].flip(-1)) and variants[0]["image_id"] == 1


@pytest.mark.parametrize("batch_size", [1, 3, 9])
def test_boxes_come_together_in_the_original_image(batch_size: int) -> None:
    (output,) = GeneralizedRCNNWithTTA(config(), BrightSpot(), batch_size=batch_size)([entry()])
    found = output["instances"]
    assert found.image_size == (80, 120) and len(found) == 1 and found.pred_classes.tolist() == [2]
    assert found.scores.item() == pytest.approx(0.08)  # of the larger variant
    assert (found.pred_boxes.tensor - torch.tensor([[80.0, 20.0, 110.0, 40.0]])).abs().max() <= 1.5


def test_masks_are_refused() -> None:
    with pytest.raises(ModelError, match=r"joins boxes alone: set TEST\.AUG\.ENABLED False"):
        GeneralizedRCNNWithTTA(config(MASK_ON=True), BrightSpot())
