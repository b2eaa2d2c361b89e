"""Two-stage detectors: a backbone, proposals, and heads that look at them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from drivetrain.modeling.contract import Losses
from drivetrain.modeling.preprocess import Preprocess
from drivetrain.structures import ImageList, Instances

from .adapter import Detector
from .roi_heads import ROIHeads
from .rpn import RPN

__all__ = ["GeneralizedRCNN"]


class GeneralizedRCNN(Detector):
    """Faster, Mask and Keypoint R-CNN, with detectron2's parameter names, numbers and losses.

    Attributes:
        backbone, proposal_generator, roi_heads: the parts.
    """

    def __init__(
        self,
        backbone: nn.Module,
        proposal_generator: RPN,
        roi_heads: ROIHeads,
        preprocess: Preprocess,
        rpn_features: Sequence[str],
        roi_features: Sequence[str],
    ) -> None:
        """Assemble the parts; the features are names of the backbone's outputs, finest first."""
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.preprocess = preprocess
        self.num_classes = roi_heads.num_classes
        self._rpn_features, self._roi_features = tuple(rpn_features), tuple(roi_features)

    def losses(self, images: ImageList, truth: Sequence[Instances]) -> Losses:
        """``loss_cls``, ``loss_box_reg``, ``loss_rpn_cls``, ``loss_rpn_loc``, ``loss_mask``, ``loss_keypoint``."""
        features = self.backbone(images.tensor)
        proposals, losses = self.proposal_generator(
            [features[name] for name in self._rpn_features],
            images.image_sizes,
            [objects.gt_boxes.tensor for objects in truth],
        )
        found = self.roi_heads.losses(
            [features[n] for n in self._roi_features], [boxes for boxes, _ in proposals], truth
        )
        return {**found, **losses}

    def detections(self, images: ImageList) -> list[Instances]:
        """See :meth:`ROIHeads.detections`."""
        features = self.backbone(images.tensor)
        proposals, _ = self.proposal_generator([features[n] for n in self._rpn_features], images.image_sizes, None)
        boxes = [boxes for boxes, _ in proposals]
        return self.roi_heads.detections([features[n] for n in self._roi_features], boxes, images.image_sizes)
