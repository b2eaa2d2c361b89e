"""detectron2's architectures as classes that take its arguments or a config: to be derived from, registered, and
described in lazy configs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from drivetrain.config import CfgNode
from drivetrain.modeling import detectron2 as own
from drivetrain.modeling.detectron2 import build_detectron2_model
from drivetrain.modeling.detectron2.adapter import preprocess_for
from drivetrain.modeling.detectron2.dense import DenseHead
from drivetrain.modeling.detectron2.fcos import FCOSHead, FCOSOptions
from drivetrain.modeling.detectron2.regression import BoxLoss
from drivetrain.modeling.detectron2.retinanet import RetinaNetOptions
from drivetrain.modeling.detectron2.roi_heads import ROIHeads
from drivetrain.modeling.detectron2.rpn import RPN

from .anchors import given_anchors
from .config import configurable
from .matching import Box2BoxTransform, Matcher

__all__ = ["FCOS", "GeneralizedRCNN", "RetinaNet"]


class GeneralizedRCNN(own.GeneralizedRCNN):
    """:class:`drivetrain.modeling.detectron2.GeneralizedRCNN` of a config, or of detectron2's arguments."""

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        proposal_generator: RPN,
        roi_heads: ROIHeads,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ) -> None:
        """``GeneralizedRCNN(cfg)``, or the parts; ``input_format`` and ``vis_period`` change nothing here."""
        super().__init__(backbone, proposal_generator, roi_heads, preprocess_for(backbone, pixel_mean, pixel_std))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments that a config describes."""
        made = _built(cfg, "GeneralizedRCNN")
        return {name: getattr(made, name) for name in ("backbone", "proposal_generator", "roi_heads")} | _pixels(cfg)


class RetinaNet(own.RetinaNet):
    """:class:`drivetrain.modeling.detectron2.RetinaNet` of a config, or of detectron2's arguments."""

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        head: DenseHead,
        head_in_features: Sequence[str],
        anchor_generator: nn.Module,
        box2box_transform: Box2BoxTransform,
        anchor_matcher: Matcher,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.5,
        max_detections_per_image: int = 100,
        input_format: str = "BGR",
        vis_period: int = 0,
    ) -> None:
        """``RetinaNet(cfg)``, or the parts and numbers; ``input_format`` and ``vis_period`` change nothing here."""
        options = RetinaNetOptions(
            num_classes,
            focal_loss_alpha,
            focal_loss_gamma,
            test_score_thresh,
            test_topk_candidates,
            test_nms_thresh,
            max_detections_per_image,
            BoxLoss(box2box_transform.weights, box_reg_loss_type, smooth_l1_beta),
            anchor_matcher.limits([0, -1, 1], low_quality=True),
        )
        preprocess = preprocess_for(backbone, pixel_mean, pixel_std)
        super().__init__(backbone, head, given_anchors(anchor_generator), preprocess, head_in_features, options)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments that a config describes."""
        made, section = _built(cfg, "RetinaNet"), cfg.MODEL.RETINANET
        return {
            **_dense_arguments(cfg, section, made),
            "anchor_generator": made.anchor_generator,
            "box2box_transform": Box2BoxTransform(section.BBOX_REG_WEIGHTS),
            "anchor_matcher": Matcher(section.IOU_THRESHOLDS, section.IOU_LABELS, allow_low_quality_matches=True),
            "smooth_l1_beta": section.SMOOTH_L1_LOSS_BETA,
            "box_reg_loss_type": section.BBOX_REG_LOSS_TYPE,
        }


class FCOS(own.FCOS):
    """:class:`drivetrain.modeling.detectron2.FCOS` of a config, or of detectron2's arguments."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Any,
        head: FCOSHead,
        head_in_features: Sequence[str],
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        center_sampling_radius: float = 1.5,
        focal_loss_alpha: float = 0.25,
        focal_loss_gamma: float = 2.0,
        test_score_thresh: float = 0.2,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
    ) -> None:
        """``FCOS(cfg)``, or the parts and numbers."""
        options = FCOSOptions(
            num_classes,
            focal_loss_alpha,
            focal_loss_gamma,
            test_score_thresh,
            test_topk_candidates,
            test_nms_thresh,
            max_detections_per_image,
            center_sampling_radius,
        )
        shapes = backbone.output_shape()
        strides = [shapes[name].stride for name in head_in_features]
        preprocess = preprocess_for(backbone, pixel_mean, pixel_std)
        super().__init__(backbone, head, strides, preprocess, head_in_features, options)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments that a config describes."""
        section = cfg.MODEL.FCOS
        arguments = _dense_arguments(cfg, section, _built(cfg, "FCOS"))
        return {**arguments, "center_sampling_radius": section.CENTER_SAMPLING_RADIUS}


def _built(cfg: CfgNode, architecture: str) -> Any:
    described = cfg.clone()
    described.defrost()
    described.MODEL.META_ARCHITECTURE = architecture
    return build_detectron2_model(described)


def _pixels(cfg: CfgNode) -> dict[str, Any]:
    return {"pixel_mean": cfg.MODEL.PIXEL_MEAN, "pixel_std": cfg.MODEL.PIXEL_STD}


def _dense_arguments(cfg: CfgNode, section: CfgNode, made: Any) -> dict[str, Any]:
    """What the one-stage detectors have in common."""
    return {
        "backbone": made.backbone,
        "head": made.head,
        "head_in_features": section.IN_FEATURES,
        "num_classes": section.NUM_CLASSES,
        "focal_loss_alpha": section.FOCAL_LOSS_ALPHA,
        "focal_loss_gamma": section.FOCAL_LOSS_GAMMA,
        "test_score_thresh": section.SCORE_THRESH_TEST,
        "test_topk_candidates": section.TOPK_CANDIDATES_TEST,
        "test_nms_thresh": section.NMS_THRESH_TEST,
        "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        **_pixels(cfg),
    }
