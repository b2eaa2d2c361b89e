"""Two-stage detectors: a backbone, proposals, and heads that look at them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

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

    section = "ROI_HEADS"

    def __init__(
        self, backbone: nn.Module, proposal_generator: RPN, roi_heads: ROIHeads, preprocess: Preprocess
    ) -> None:
        """Assemble the parts."""
        super().__init__()
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        self.roi_heads = roi_heads
        self.preprocess = preprocess
        self.num_classes = roi_heads.num_classes

    def losses(self, images: ImageList, truth: Sequence[Instances]) -> Losses:
        """``loss_cls``, ``loss_box_reg``, ``loss_rpn_cls``, ``loss_rpn_loc``, ``loss_mask``, ``loss_keypoint``."""
        features = self.backbone(images.tensor)
        true_boxes = [objects.gt_boxes.tensor for objects in truth]
        proposals, losses = self.proposal_generator(features, images.image_sizes, true_boxes)
        return {**self.roi_heads.losses(features, [boxes for boxes, _ in proposals], truth), **losses}

    def detections(self, images: ImageList) -> list[Instances]:
        """Boxes, scores and classes of each image, with masks and keypoints where the model has those branches."""
        features = self.backbone(images.tensor)
        found = self._boxes(features, images)
        self.roi_heads.add_branches(features, found)
        return found

    def boxes(self, images: ImageList) -> list[Instances]:
        """:meth:`ROIHeads.boxes` of each image, without what the other branches would add."""
        return self._boxes(self.backbone(images.tensor), images)

    def add_branches(self, images: ImageList, found: Sequence[Instances]) -> None:
        """:meth:`ROIHeads.add_branches` to detections ``found`` in the pixels of these images."""
        self.roi_heads.add_branches(self.backbone(images.tensor), found)

    def _boxes(self, features: dict[str, Tensor], images: ImageList) -> list[Instances]:
        proposals, _ = self.proposal_generator(features, images.image_sizes, None)
        return self.roi_heads.boxes(features, [boxes for boxes, _ in proposals], images.image_sizes)
