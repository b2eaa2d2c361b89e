"""Architectures that take a config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from drivetrain.compat import heads
from drivetrain.compat.config import configurable
from drivetrain.compat.modeling import FCOS, GeneralizedRCNN, RetinaNet, build_model, in_their_form
from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.events import EventStorage, get_event_storage
from drivetrain.modeling import build_model as build_own_model
from drivetrain.modeling import detectron2 as own
from drivetrain.structures import BitMasks, Boxes, ImageList, Instances

STAGES = ["res2", "res3", "res4", "res5"]
Small = Callable[..., CfgNode]


def same_predictions(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    other.load_state_dict(one.state_dict())
    batch = [{"image": torch.randint(0, 256, (3, 64, 80), dtype=torch.uint8), "height": 64, "width": 80}]
    with torch.no_grad():
        a, b = (model.eval()(batch)[0]["instances"] for model in (one, other))
    return torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor) and torch.equal(a.scores, b.scores)


def test_rcnn_from_a_config_or_from_parts(small_cfg: Small) -> None:
    cfg = small_cfg("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    model = GeneralizedRCNN(cfg)
    built = build_own_model(cfg)
    assert same_predictions(built, model)
    parts = {name: getattr(built, name) for name in ("backbone", "proposal_generator", "roi_heads")}
    again = GeneralizedRCNN(**parts, pixel_mean=cfg.MODEL.PIXEL_MEAN, pixel_std=cfg.MODEL.PIXEL_STD, vis_period=5)
    assert again.backbone is built.backbone and same_predictions(built, again)


def test_a_class_of_ones_own_with_further_arguments(small_cfg: Small) -> None:
    class Scaled(GeneralizedRCNN):
        @configurable
        def __init__(self, *, scale: float, **parts: Any) -> None:
            super().__init__(**parts)
            self.scale = scale

        @classmethod
        def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
            return {**super().from_config(cfg), "scale": 0.5}

    model = Scaled(small_cfg())
    assert model.scale == 0.5 and model.preprocess.size_divisibility == 32


ONE_STAGE = ("MODEL.RESNETS.OUT_FEATURES", STAGES[1:], "MODEL.FPN.IN_FEATURES", STAGES[1:])


def numbers(section: str) -> list[Any]:
    """None of which is a default."""
    values = {"NUM_CLASSES": 7, "NUM_CONVS": 1, "FOCAL_LOSS_ALPHA": 0.4, "FOCAL_LOSS_GAMMA": 1.5}
    values |= {"SCORE_THRESH_TEST": 0.0, "TOPK_CANDIDATES_TEST": 500, "NMS_THRESH_TEST": 0.45}
    keys: list[Any] = ["TEST.DETECTIONS_PER_IMAGE", 60]
    return keys + [part for name, value in values.items() for part in (f"MODEL.{section}.{name}", value)]


def test_retinanet_from_a_config(small_cfg: Small) -> None:
    cfg = small_cfg(
        *("MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone", *ONE_STAGE, *numbers("RETINANET")),
        *("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", 0.3, "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "giou"),
        *("MODEL.RETINANET.IOU_THRESHOLDS", [0.25, 0.35], "MODEL.RETINANET.BBOX_REG_WEIGHTS", (2.0, 2.0, 1.0, 1.0)),
    )
    model = RetinaNet(cfg)  # whatever MODEL.META_ARCHITECTURE is
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    assert same_predictions(build_own_model(cfg), model) and same_options(build_own_model(cfg), model)


def test_fcos_from_a_config(small_cfg: Small) -> None:
    cfg = small_cfg(
        *("MODEL.BACKBONE.NAME", "build_fcos_resnet_fpn_backbone", *ONE_STAGE, *numbers("FCOS")),
        *("MODEL.FCOS.NORM", "", "MODEL.FCOS.CENTER_SAMPLING_RADIUS", 2.5),
    )
    model = FCOS(cfg)
    cfg.MODEL.META_ARCHITECTURE = "FCOS"
    assert same_predictions(build_own_model(cfg), model) and same_options(build_own_model(cfg), model)


def same_options(one: Any, other: Any) -> bool:
    mine, theirs = (dict(vars(model._options)) for model in (one, other))
    losses = [vars(options.pop("loss")) for options in (mine, theirs) if "loss" in options]
    for loss in losses:
        loss["coder"] = vars(loss["coder"])
    return mine == theirs and losses[:1] == losses[1:]


BATCH = [{"image": torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8), "height": 100, "width": 140}]


def test_models_of_configs_are_instances_of_the_classes_here(small_cfg: Small) -> None:
    cfg = small_cfg("MODEL.MASK_ON", True)
    model = build_model(cfg)
    assert type(model) is GeneralizedRCNN and model.training
    plain = build_own_model(cfg)
    assert isinstance(plain, GeneralizedRCNN) and not isinstance(plain, RetinaNet | FCOS | Noted)
    assert type(plain) is own.GeneralizedRCNN and list(model.state_dict()) == list(plain.state_dict())
    again: Any = in_their_form(plain)
    assert all(a is b for a, b in zip(again.parameters(), plain.parameters(), strict=True))
    assert type(again.roi_heads) is heads.StandardROIHeads and type(again.proposal_generator) is heads.RPN
    assert type(again.roi_heads.mask_pooler) is heads.ROIPooler and again.roi_heads.mask_pooler.output_size == (14, 14)
    assert in_their_form(again) is again
    layer = torch.nn.Linear(1, 1)
    assert in_their_form(layer) is layer
    stage_as_head = build_model(small_cfg("MODEL.ROI_HEADS.NAME", "Res5ROIHeads", *C4))
    assert type(stage_as_head.roi_heads) is heads.Res5ROIHeads


C4 = (
    *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res4"]),
    *("MODEL.RPN.IN_FEATURES", ["res4"], "MODEL.ROI_HEADS.IN_FEATURES", ["res4"]),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[16, 32]]),
)


def test_what_classes_of_ones_own_use(small_cfg: Small) -> None:
    model = GeneralizedRCNN(small_cfg("MODEL.PIXEL_STD", [2.0, 2.0, 2.0]))
    images = model.preprocess_image(BATCH)
    expected = (BATCH[0]["image"] - model.pixel_mean) / model.pixel_std
    assert images.image_sizes == [(50, 70)] and images.tensor.shape == (1, 3, 64, 96)
    assert torch.allclose(images.tensor[0, :, :50, :70], expected) and model.device == torch.device("cpu")


@torch.no_grad()
def test_inference_of_given_boxes_or_without_scaling(small_cfg: Small) -> None:
    cfg = small_cfg("MODEL.MASK_ON", True, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    model = GeneralizedRCNN(cfg).eval()
    scaled = model(BATCH)[0]["instances"]
    (plain,) = model.inference(BATCH, do_postprocess=False)
    kept = plain[plain.pred_boxes.nonempty()].pred_boxes
    assert torch.equal(kept.tensor * 2, scaled.pred_boxes.tensor) and plain.image_size == (50, 70)
    assert scaled.pred_masks.shape[1:] == (100, 140) and plain.pred_masks.shape[1:] == (1, 28, 28)
    boxes = Instances((50, 70), pred_boxes=plain.pred_boxes, pred_classes=plain.pred_classes)
    (given,) = model.inference(BATCH, [boxes], do_postprocess=False)
    assert torch.equal(given.pred_masks, plain.pred_masks) and given.pred_boxes.tensor.shape == (len(plain), 4)


class Copied(GeneralizedRCNN):
    """With detectron2's own ``forward`` and ``inference``."""

    def forward(self, batched_inputs: Any) -> Any:
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
        features = self.backbone(images.tensor)
        proposals, proposal_losses = self.proposal_generator(images, features, gt_instances)
        _, detector_losses = self.roi_heads(images, features, proposals, gt_instances)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return {**detector_losses, **proposal_losses}

    def inference(self, batched_inputs: Any, detected_instances: Any = None, do_postprocess: bool = True) -> Any:
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        proposals, _ = self.proposal_generator(images, features, None)
        results, _ = self.roi_heads(images, features, proposals, None)
        return GeneralizedRCNN._postprocess(results, batched_inputs, images.image_sizes)

    def preprocess_image(self, batched_inputs: Any) -> ImageList:
        images = [self._move_to_current_device(x["image"]) for x in batched_inputs]
        images = [(x - self.pixel_mean) / self.pixel_std for x in images]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)


def test_methods_copied_from_detectron2_do_the_same(small_cfg: Small) -> None:
    cfg = small_cfg("MODEL.MASK_ON", True, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "VIS_PERIOD", 2)
    copied, model = Copied(cfg), GeneralizedRCNN(cfg)
    model.load_state_dict(copied.state_dict())
    masks = torch.zeros(1, 50, 70, dtype=torch.bool)
    masks[:, 10:30, 5:25] = True
    boxes = Boxes(torch.tensor([[5.0, 10.0, 25.0, 30.0]]))
    target = Instances((50, 70), gt_boxes=boxes, gt_classes=torch.tensor([1]), gt_masks=BitMasks(masks))
    batch = [{**BATCH[0], "instances": target}]
    losses = []
    with EventStorage(1) as storage:
        for one in (copied, model):
            torch.manual_seed(0)
            losses.append(one(batch))
        assert losses[0] == losses[1] and set(losses[0]) >= {"loss_mask", "loss_rpn_cls"} and not storage._vis_data
        storage.iter = 2
        copied(batch)
        ((name, picture, _),) = storage._vis_data
        assert name.startswith("Left: GT") and picture.shape == (3, 50, 140)
        image = BATCH[0]["image"].flip(0).numpy()  # in the order of RGB; boxes are drawn over a part of it
        assert (
            0.5 < (picture[:, :, :70].numpy() == image).mean() < 1
            and 0 < (picture[:, :, 70:].numpy() == image).mean() < 1
        )
    with torch.no_grad():
        one, other = (m.eval()(BATCH)[0]["instances"] for m in (copied, model))
    assert torch.allclose(one.pred_boxes.tensor, other.pred_boxes.tensor) and torch.equal(one.scores, other.scores)
    assert torch.equal(one.pred_masks, other.pred_masks)
    (alone,) = GeneralizedRCNN._postprocess([Instances((50, 70), pred_boxes=boxes)], [{}], [(50, 70)])
    assert alone["instances"].image_size == (50, 70) and torch.equal(alone["instances"].pred_boxes.tensor, boxes.tensor)


class Noted(GeneralizedRCNN):
    """Notes which of its methods are called."""

    def preprocess_image(self, batched_inputs: Any) -> ImageList:
        self.seen = [*getattr(self, "seen", ()), "preprocess_image"]
        return super().preprocess_image(batched_inputs)

    def inference(self, *args: Any, **kwargs: Any) -> Any:
        self.seen = [*getattr(self, "seen", ()), "inference"]
        return super().inference(*args, **kwargs)


def test_methods_that_are_overridden_are_called(small_cfg: Small) -> None:
    model = Noted(small_cfg())
    boxes = Boxes(torch.tensor([[5.0, 10.0, 25.0, 30.0]]))
    target = Instances((50, 70), gt_boxes=boxes, gt_classes=torch.tensor([1]))
    assert "loss_cls" in model([{**BATCH[0], "instances": target}]) and model.seen == ["preprocess_image"]
    model.eval()(BATCH)
    assert model.seen[1:] == ["inference", "preprocess_image"]


@pytest.mark.parametrize(("base", "name"), [(RetinaNet, "losses"), (RetinaNet, "inference"), (FCOS, "match_anchors")])
def test_what_would_not_be_called_is_refused_unless_forward_is_ones_own(base: type, name: str) -> None:
    methods = {name: lambda self: None}
    with pytest.raises(ModelError, match=rf"Mine\.{name} would not be called: .* give the class a forward\(\)"):
        type("Mine", (base,), methods)
    assert type("Mine", (base,), {**methods, "forward": lambda self, batch: None}).__mro__[1] is base
