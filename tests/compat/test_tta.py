"""Predictions on several variants of an image, joined."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.compat.modeling import GeneralizedRCNN
from drivetrain.compat.schema import CompatRoot
from drivetrain.compat.tta import DatasetMapperTTA, GeneralizedRCNNWithTTA
from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling import detectron2 as own
from drivetrain.structures import Boxes, ImageList, Instances


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


def small_mask_model() -> tuple[CfgNode, own.GeneralizedRCNN]:
    """A model with random weights, sure enough of itself that it predicts something."""
    cfg = config(MASK_ON=True)
    values = {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.OUT_CHANNELS": 32,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_HEADS.NUM_CLASSES": 2,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
        "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 7,
        "TEST.DETECTIONS_PER_IMAGE": 5,
    }
    cfg.merge_from_list([part for item in values.items() for part in item])
    torch.manual_seed(0)
    model = own.build_detectron2_model(cfg)
    assert isinstance(model, own.GeneralizedRCNN)
    return cfg, model.eval()


@torch.no_grad()
def test_one_variant_is_the_model_itself() -> None:
    cfg, model = small_mask_model()
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP = (40,), False
    (alone,), (joined,) = model([entry()]), GeneralizedRCNNWithTTA(cfg, model)([entry()])
    expected, found = alone["instances"], joined["instances"]
    assert len(found) == 5 and found.pred_masks.any()
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores) and torch.equal(found.pred_classes, expected.pred_classes)
    assert (found.pred_masks != expected.pred_masks).sum() <= 2  # boxes went through the other size and back


@torch.no_grad()
@pytest.mark.parametrize(("right", "share"), [(-2.0, 1.0), (-4.0, 0.0)])  # means of 0.95 with 0.12, and with 0.02
def test_masks_are_the_mean_over_all_variants(monkeypatch: pytest.MonkeyPatch, right: float, share: float) -> None:
    """Masks that are sure of the left half, whatever the image: with the mirrored variant both halves are alike."""
    cfg, model = small_mask_model()
    row = torch.tensor([3.0, 3.0, right, right])
    monkeypatch.setattr(model.roi_heads.mask_head, "forward", lambda features: row.expand(len(features), 2, 4, 4))
    cfg.TEST.AUG.MIN_SIZES = (40,)
    (joined,) = GeneralizedRCNNWithTTA(cfg, model)([entry()])
    found = joined["instances"]
    x0, y0, x1, y1 = found.pred_boxes.tensor[0].tolist()
    width, height = x1 - x0, y1 - y0
    inside = found.pred_masks[0, int(y0 + height / 4) : int(y1 - height / 4), int(x0 + width / 4) : int(x1 - width / 4)]
    assert inside.numel() > 20 and inside.float().mean() == share


@torch.no_grad()
def test_each_variant_is_asked_for_the_joined_boxes_at_their_place_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, model = small_mask_model()
    asked: list[Instances] = []
    add = model.roi_heads.add_branches
    monkeypatch.setattr(model.roi_heads, "add_branches", lambda f, found: (asked.extend(found), add(f, found)))
    (joined,) = GeneralizedRCNNWithTTA(cfg, model)([entry()])
    boxes = joined["instances"].pred_boxes.tensor  # in the original image of 80 x 120
    assert [found.image_size for found in asked] == [(40, 60), (40, 60), (80, 120), (80, 120)]
    assert torch.allclose(asked[0].pred_boxes, boxes / 2) and torch.allclose(asked[2].pred_boxes, boxes)
    mirrored = torch.stack((120 - boxes[:, 2], boxes[:, 1], 120 - boxes[:, 0], boxes[:, 3]), dim=1)
    assert torch.allclose(asked[1].pred_boxes, mirrored / 2) and torch.allclose(asked[3].pred_boxes, mirrored)


@torch.no_grad()
def test_images_are_prepared_in_the_way_of_the_model() -> None:
    class Noting(GeneralizedRCNN):
        def preprocess_image(self, batched_inputs: Any) -> ImageList:
            images = super().preprocess_image(batched_inputs)
            sizes.append(images.image_sizes)
            return images

    sizes: list[Any] = []
    cfg, _ = small_mask_model()
    GeneralizedRCNNWithTTA(cfg, Noting(cfg).eval())([entry()])
    assert len(sizes) == 4 and sum(map(len, sizes)) == 8, "for boxes and for masks, of four variants in parts of three"


@torch.no_grad()
def test_nothing_found() -> None:
    cfg, model = small_mask_model()
    model.roi_heads.box_predictor.cls_score.bias[-1] = 50.0
    (joined,) = GeneralizedRCNNWithTTA(cfg, model)([entry()])
    assert len(joined["instances"]) == 0 and joined["instances"].pred_masks.shape == (0, 80, 120)


def test_what_cannot_be_joined() -> None:
    with pytest.raises(ModelError, match=r"does not join keypoints: set TEST\.AUG\.ENABLED False"):
        GeneralizedRCNNWithTTA(config(KEYPOINT_ON=True), BrightSpot())
    with pytest.raises(ModelError, match="and not a BrightSpot"):
        GeneralizedRCNNWithTTA(config(MASK_ON=True), BrightSpot())
