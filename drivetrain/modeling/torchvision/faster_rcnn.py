"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) with a feature pyramid, torchvision's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.backbones import FeaturePyramid
from drivetrain.modeling.contract import Losses
from drivetrain.structures import ImageList

from .adapter import TorchvisionDetector, as_torchvision
from .options import DetectorOptions

__all__ = ["FasterRCNNDetector", "Samples", "build_faster_rcnn"]


@dataclass(frozen=True)
class Samples:
    """The boxes that the second stage of a step learns from, image by image.

    Attributes:
        features: the pyramid's levels by name, of all images.
        boxes: XYXY in pixels of the prepared image, shape (R_i, 4).
        matched: the place of each box's object among the image's targets, shape (R_i,).
        labels: the network's numbering, 0 for the background, shape (R_i,).
    """

    features: dict[str, Tensor]
    boxes: list[Tensor]
    matched: list[Tensor]
    labels: list[Tensor]

    def foreground(self) -> Samples:
        """Those boxes that stand for an object."""
        rows = [(labels > 0).nonzero().flatten() for labels in self.labels]
        kept = [[v[r] for v, r in zip(of, rows, strict=True)] for of in (self.boxes, self.matched, self.labels)]
        return Samples(self.features, *kept)


class FasterRCNNDetector(TorchvisionDetector, FasterRCNN):  # type: ignore[misc]
    """torchvision's Faster R-CNN under the model contract.

    Its classes are one softmax with the background first: class k is output k + 1. Levels start at stride 4, one per
    list of anchor sizes; one level beyond the backbone's coarsest is made by pooling and serves proposals alone. The
    box head is four times as wide as the pyramid.
    """

    background = 1

    def __init__(self, options: DetectorOptions) -> None:
        """Build it with random weights.

        Raises:
            ModelError: an option does not fit.
        """
        strides = options.strides(4)
        body = options.body(strides)
        pooled = len(strides) - len(body.strides)
        anchors = AnchorGenerator(options.sizes, options.ratios)
        per_place = anchors.num_anchors_per_location()
        if pooled > 1 or len(set(per_place)) != 1:
            raise ModelError(
                f"Faster R-CNN has one level for each of backbone strides {list(body.strides)} and at most one more, "
                f"all with equally many anchors, but MODEL.ANCHOR_GENERATOR gives {per_place} anchors on its levels"
            )
        width, resolution = 4 * options.channels, 7
        super().__init__(
            FeaturePyramid(body, options.channels, LastLevelMaxPool() if pooled else None),
            rpn_anchor_generator=anchors,
            rpn_head=RPNHead(options.channels, per_place[0], options.num_convs),
            box_roi_pool=MultiScaleRoIAlign([str(i) for i in range(len(body.strides))], resolution, 2),
            box_head=TwoMLPHead(options.channels * resolution**2, width),
            box_predictor=FastRCNNPredictor(width, options.num_classes + 1),
            box_score_thresh=options.score_thresh,
            box_nms_thresh=options.nms_thresh,
            box_detections_per_img=options.detections_per_image,
            box_batch_size_per_image=options.rois_per_image or 512,
            **_proposal_counts(options.proposals),
        )
        self.adapt(options)

    def losses(self, images: ImageList, targets: list[dict[str, Any]]) -> Losses:
        """``loss_rpn_cls`` and ``loss_rpn_loc`` of the proposals, ``loss_cls`` and ``loss_box_reg`` of the boxes."""
        return self.box_losses(images, targets)[0]

    def box_losses(self, images: ImageList, targets: list[dict[str, Any]]) -> tuple[Losses, Samples]:
        """The losses of :meth:`losses`, and what they were computed from, for a branch beside the boxes'."""
        features = self.backbone(images.tensor)
        proposals, rpn = self.rpn(as_torchvision(images), features, targets)
        boxes, matched, labels, offsets = self.roi_heads.select_training_samples(proposals, targets)
        loss_cls, loss_box_reg = fastrcnn_loss(*self._second_stage(features, boxes, images), labels, offsets)
        losses = {
            "loss_rpn_cls": rpn["loss_objectness"],
            "loss_rpn_loc": rpn["loss_rpn_box_reg"],
            "loss_cls": loss_cls,
            "loss_box_reg": loss_box_reg,
        }
        return losses, Samples(features, boxes, matched, labels)

    def detections(self, images: ImageList) -> list[dict[str, Tensor]]:
        """See the base class; the score is the class probability."""
        return self.box_detections(images)[0]

    def box_detections(self, images: ImageList) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """The boxes, scores and labels of :meth:`detections`, and the pyramid's levels."""
        features = self.backbone(images.tensor)
        proposals, _ = self.rpn(as_torchvision(images), features)
        predictions = self._second_stage(features, proposals, images)
        columns = self.roi_heads.postprocess_detections(*predictions, proposals, images.image_sizes)
        names = ("boxes", "scores", "labels")
        return [dict(zip(names, of_image, strict=True)) for of_image in zip(*columns, strict=True)], features

    def _second_stage(
        self, features: dict[str, Tensor], boxes: list[Tensor], images: ImageList
    ) -> tuple[Tensor, Tensor]:
        """Class logits and offsets of the boxes of all images."""
        heads = self.roi_heads
        logits, offsets = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, boxes, images.image_sizes)))
        return logits, offsets


def _proposal_counts(count: int) -> dict[str, int]:
    """torchvision's arguments for the number of proposals; none for 0, which leaves its 2000 and 1000."""
    names = [f"rpn_{when}_nms_top_n_{mode}" for when in ("pre", "post") for mode in ("train", "test")]
    return dict.fromkeys(names, count) if count else {}


def build_faster_rcnn(cfg: CfgNode) -> FasterRCNNDetector:
    """Faster R-CNN from a config.

    Raises:
        ModelError: an option does not fit.
    """
    return FasterRCNNDetector(DetectorOptions.from_cfg(cfg))
