"""detectron2's architectures as classes that take its arguments or a config: to be derived from, registered, and
described in lazy configs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from drivetrain.config import CfgNode
from drivetrain.events import get_event_storage
from drivetrain.modeling import build_model as build_own_model
from drivetrain.modeling import detectron2 as own
from drivetrain.modeling.contract import Batch, Losses, Outputs
from drivetrain.modeling.detectron2 import build_detectron2_model
from drivetrain.modeling.detectron2.adapter import Detector, in_output_image, preprocess_for
from drivetrain.modeling.detectron2.dense import DenseHead
from drivetrain.modeling.detectron2.fcos import FCOSHead, FCOSOptions
from drivetrain.modeling.detectron2.pooler import ROIPooler
from drivetrain.modeling.detectron2.regression import BoxLoss
from drivetrain.modeling.detectron2.retinanet import RetinaNetOptions
from drivetrain.modeling.detectron2.roi_heads import ROIHeads
from drivetrain.modeling.detectron2.rpn import RPN
from drivetrain.modeling.targets import objects
from drivetrain.structures import ImageList, Instances

from . import calls, heads
from .also_counts import AlsoCounts
from .anchors import given_anchors
from .config import configurable
from .detection_utils import convert_image_to_rgb
from .matching import Box2BoxTransform, Matcher
from .postprocessing import detector_postprocess
from .visualizer import Visualizer

__all__ = ["FCOS", "GeneralizedRCNN", "RetinaNet", "build_model", "in_their_form"]


class _Architecture(Detector, metaclass=AlsoCounts):
    """The model contract by methods that classes derived from detectron2's architectures call and override.

    A class with a ``forward`` of its own may define any others.
    """

    not_called: ClassVar[tuple[str, ...]] = ()
    """Methods of detectron2's architecture that ``forward`` here does not call as it does there."""

    def __init_subclass__(cls) -> None:
        """Refuse what would not be called."""
        super().__init_subclass__()
        if cls.forward is _Architecture.forward:
            calls.refuse_overrides(cls, cls.not_called, "give the class a forward() of its own, which calls it")

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.preprocess.device

    @property
    def pixel_mean(self) -> Tensor:
        """Of each channel (C, 1, 1), in the order of the images."""
        return self.preprocess.mean

    @property
    def pixel_std(self) -> Tensor:
        """Likewise."""
        return self.preprocess.std

    def _move_to_current_device(self, x: Tensor) -> Tensor:
        """A tensor where the model lies."""
        return x.to(self.device)

    def forward(self, batch: Batch) -> Losses | Outputs:
        """Losses in training mode, outputs in evaluation mode; see :mod:`drivetrain.modeling.contract`."""
        if not self.training:
            return self.inference(batch)
        images = self.preprocess_image(batch)
        truth = [objects(entry, self.num_classes, key=f"MODEL.{self.section}.NUM_CLASSES") for entry in batch]
        return self.losses(images, [instances.to(self.device) for instances in truth])

    def preprocess_image(self, batched_inputs: Batch) -> ImageList:
        """The images of a batch, normalised and padded, on the model's device."""
        prepared: ImageList = self.preprocess(batched_inputs)
        return prepared

    def inference(self, batched_inputs: Batch) -> Outputs:
        """``instances`` of each image in the pixels of the original one."""
        images = self.preprocess_image(batched_inputs)
        return _outputs(batched_inputs, self.detections(images))


def _outputs(batch: Batch, found: Sequence[Instances]) -> Outputs:
    """``instances`` of each image in the pixels of the original one, from what ``detections`` gives."""
    outputs = []
    for entry, instances in zip(batch, found, strict=True):
        height, width = instances.image_size
        size = int(entry.get("height", height)), int(entry.get("width", width))
        outputs.append({"instances": in_output_image(instances, *size)})
    return outputs


class GeneralizedRCNN(_Architecture, own.GeneralizedRCNN):
    """:class:`drivetrain.modeling.detectron2.GeneralizedRCNN` of a config, or of detectron2's arguments.

    Its parts are called in detectron2's form too::

        images = model.preprocess_image(batch)
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
        instances, _ = model.roi_heads(images, features, proposals)
    """

    also_counts = (own.GeneralizedRCNN,)
    input_format: str | None = None
    vis_period = 0

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
        """``GeneralizedRCNN(cfg)``, or the parts; ``forward`` here looks at no ``vis_period``."""
        super().__init__(backbone, proposal_generator, roi_heads, preprocess_for(backbone, pixel_mean, pixel_std))
        self.input_format, self.vis_period = input_format, vis_period

    def inference(
        self,
        batched_inputs: Batch,
        detected_instances: Sequence[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """Detections of each image.

        Args:
            batched_inputs: a batch.
            detected_instances: of each image, with ``pred_boxes`` and ``pred_classes`` in pixels of the images of the
                batch: masks and keypoints of these are predicted, and no boxes.
            do_postprocess: ``instances`` in dicts, in the pixels of the original images; else :class:`Instances` in
                those of the batch, with masks (N, 1, M, M) from 0 to 1 within the boxes.
        """
        images = self.preprocess_image(batched_inputs)
        if detected_instances is None:
            found = self.detections(images)
        else:
            found = [calls.given_boxes(instances) for instances in detected_instances]
            self.add_branches(images, found)
        if do_postprocess:
            return _outputs(batched_inputs, found)
        return [calls.with_boxes(instances) for instances in found]

    @staticmethod
    def _postprocess(
        instances: Sequence[Instances], batched_inputs: Batch, image_sizes: Sequence[tuple[int, int]]
    ) -> Outputs:
        """What the parts found, in the pixels of the original images."""
        return [
            {"instances": detector_postprocess(found, entry.get("height", size[0]), entry.get("width", size[1]))}
            for found, entry, size in zip(instances, batched_inputs, image_sizes, strict=True)
        ]

    def visualize_training(self, batched_inputs: Batch, proposals: Sequence[Instances]) -> None:
        """Put a picture into the event storage: the first image's true boxes, and beside them its 20 best proposals.

        For a ``forward`` of one's own; of ``VIS_PERIOD`` the trainer draws predictions.
        """
        entry = batched_inputs[0]
        image = convert_image_to_rgb(entry["image"].permute(1, 2, 0), self.input_format or "BGR")
        shown = entry["instances"].gt_boxes.tensor, proposals[0].proposal_boxes.tensor[:20].detach()
        pictures = [Visualizer(image).overlay_instances(boxes=boxes.cpu()).get_image() for boxes in shown]
        joined = np.concatenate(pictures, axis=1).transpose(2, 0, 1)
        get_event_storage().put_image("Left: GT bounding boxes;  Right: Predicted proposals", joined)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """The arguments that a config describes."""
        made = in_their_form(_built(cfg, "GeneralizedRCNN"))
        parts = {name: getattr(made, name) for name in ("backbone", "proposal_generator", "roi_heads")}
        return {**parts, **_pixels(cfg), "input_format": cfg.INPUT.FORMAT, "vis_period": cfg.VIS_PERIOD}


_DENSE_METHODS = (
    "losses",
    "inference",
    "label_anchors",
    "inference_single_image",
    "forward_training",
    "forward_inference",
)


class RetinaNet(_Architecture, own.RetinaNet):
    """:class:`drivetrain.modeling.detectron2.RetinaNet` of a config, or of detectron2's arguments."""

    also_counts = (own.RetinaNet,)
    not_called = _DENSE_METHODS

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


class FCOS(_Architecture, own.FCOS):
    """:class:`drivetrain.modeling.detectron2.FCOS` of a config, or of detectron2's arguments."""

    also_counts = (own.FCOS,)
    not_called = (*_DENSE_METHODS, "match_anchors", "compute_ctrness_targets")

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


_ARCHITECTURES: dict[type[nn.Module], type[nn.Module]] = {
    own.GeneralizedRCNN: GeneralizedRCNN,
    own.RetinaNet: RetinaNet,
    own.FCOS: FCOS,
}


def in_their_form(model: nn.Module) -> nn.Module:
    """A model that was built from a config, as one of the classes here; others as they are.

    It shares all that the given one holds, whose parts take detectron2's form of calls with it.
    """
    if type(model) not in _ARCHITECTURES:
        return model
    other = calls.as_class(model, _ARCHITECTURES[type(model)])
    if isinstance(model, own.GeneralizedRCNN):
        kind = heads.Res5ROIHeads if hasattr(model.roi_heads, "res5") else heads.StandardROIHeads
        second_stage = calls.as_class(model.roi_heads, kind)
        for name, pooler in second_stage.named_children():
            if isinstance(pooler, ROIPooler):
                setattr(second_stage, name, calls.as_class(pooler, heads.ROIPooler))
        other.proposal_generator = calls.as_class(model.proposal_generator, heads.RPN)
        other.roi_heads = second_stage
    return other


def build_model(cfg: CfgNode) -> nn.Module:
    """:func:`drivetrain.modeling.build_model`, whose detectors are then instances of the classes here."""
    return in_their_form(build_own_model(cfg))


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
