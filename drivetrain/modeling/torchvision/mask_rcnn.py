"""Mask R-CNN (He et al. 2017, arXiv:1703.06870) with a feature pyramid, torchvision's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.ops import MultiScaleRoIAlign

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.contract import Losses
from drivetrain.structures import BitMasks, ImageList, Instances, PolygonMasks

from .faster_rcnn import FasterRCNNDetector, Samples
from .mask_targets import MaskCrops
from .options import DetectorOptions

__all__ = ["MaskRCNNDetector", "build_mask_rcnn"]

MASK_FORMATS = ("bitmask", "rle")


class MaskRCNNDetector(FasterRCNNDetector):
    """torchvision's Mask R-CNN under the model contract: Faster R-CNN with a mask for each box.

    Masks are pasted into the original image one after the other, each within its own box, as torchvision does it.
    """

    def __init__(self, options: DetectorOptions, channels: tuple[int, ...], mask_format: str = "bitmask") -> None:
        """Build it with random weights.

        Args:
            options: those of the detector.
            channels: of each convolution of the mask branch.
            mask_format: what ``pred_masks`` is: ``"bitmask"``, a bool tensor (N, height, width), or ``"rle"``, a list
                of COCO run lengths, made without any bitmap of the image's size.

        Raises:
            ModelError: an option does not fit.
        """
        super().__init__(options)
        if mask_format not in MASK_FORMATS:
            raise ModelError(f"TEST.MASK_FORMAT {mask_format!r} is not one of {', '.join(map(repr, MASK_FORMATS))}")
        self.mask_format = mask_format
        heads = self.roi_heads
        heads.mask_roi_pool = MultiScaleRoIAlign(heads.box_roi_pool.featmap_names, 14, 2)
        heads.mask_head = MaskRCNNHeads(options.channels, channels, 1)
        heads.mask_predictor = MaskRCNNPredictor(channels[-1], channels[-1], options.num_classes + 1)

    def losses(self, images: ImageList, targets: list[dict[str, Any]]) -> Losses:
        """Those of Faster R-CNN and ``loss_mask``, the mean binary cross entropy over the cells of each mask."""
        losses, samples = self.box_losses(images, targets)
        losses["loss_mask"] = self._mask_loss(images, samples.foreground(), [target["masks"] for target in targets])
        return losses

    def _mask_loss(self, images: ImageList, samples: Samples, masks: list[MaskCrops]) -> Tensor:
        logits = self._mask_logits(samples.features, samples.boxes, images).float()
        if not len(logits):
            return logits.sum()
        side = logits.shape[-1]
        of_images = zip(masks, samples.boxes, samples.matched, strict=True)
        wanted = torch.cat([crops.sample(boxes, matched, side) for crops, boxes, matched in of_images])
        places = torch.arange(len(logits), device=logits.device)
        return F.binary_cross_entropy_with_logits(logits[places, torch.cat(samples.labels)], wanted)

    def detections(self, images: ImageList) -> list[dict[str, Tensor]]:
        """See the base class; ``masks`` are the scores of the box's class, shape (N, 28, 28)."""
        found, features = self.box_detections(images)
        logits = self._mask_logits(features, [one["boxes"] for one in found], images)
        for one, scores in zip(found, maskrcnn_inference(logits, [one["labels"] for one in found]), strict=True):
            one["masks"] = scores[:, 0]
        return found

    def _mask_logits(self, features: dict[str, Tensor], boxes: list[Tensor], images: ImageList) -> Tensor:
        """For each box and class the logits of a mask, shape (boxes of all images, classes, 28, 28)."""
        heads = self.roi_heads
        pooled = heads.mask_roi_pool(features, boxes, images.image_sizes)
        logits: Tensor = heads.mask_predictor(heads.mask_head(pooled))
        return logits

    def _instances(self, found: dict[str, Tensor], size: tuple[int, int], entry: dict[str, Any]) -> Instances:
        instances = super()._instances(found, size, entry)
        masks = instances.pred_masks
        instances.pred_masks = masks.run_lengths() if self.mask_format == "rle" else masks.tensor
        return instances

    def more_targets(self, instances: Instances, entry: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """``masks``, as MaskCrops."""
        masks = instances.get_fields().get("gt_masks")
        name = entry.get("file_name", "an image")
        if not isinstance(masks, (PolygonMasks, BitMasks)):
            raise ModelError(
                f"this model learns masks, but the instances of {name} have {masks!r} as gt_masks: annotate the "
                "dataset with masks and have MODEL.TARGETS name them, or choose a model without masks"
            )
        mask_size = masks.image_size if isinstance(masks, BitMasks) else instances.image_size
        if tuple(mask_size) != tuple(size):
            raise ModelError(
                f"the masks of {name} are for an image of height x width {mask_size[0]} x {mask_size[1]}, but it has "
                f"{size[0]} x {size[1]}: transform masks and image alike"
            )
        return {"masks": MaskCrops.of(masks, size, self.preprocess.device)}


def build_mask_rcnn(cfg: CfgNode) -> MaskRCNNDetector:
    """Mask R-CNN from a config: ``MODEL.ROI_MASK_HEAD.NUM_CONV`` convolutions of ``CONV_DIM`` channels.

    Raises:
        ModelError: an option does not fit.
    """
    head = cfg.MODEL.get("ROI_MASK_HEAD", {})
    channels = (head.get("CONV_DIM", 0) or 256,) * (head.get("NUM_CONV", 0) or 4)
    return MaskRCNNDetector(DetectorOptions.from_cfg(cfg), channels, cfg.TEST.get("MASK_FORMAT", "bitmask"))
