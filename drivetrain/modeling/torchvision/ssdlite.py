"""SSDLite with MobileNetV3-Large (Howard et al. 2019, arXiv:1905.02244, section 6.3), torchvision's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.ssd import SSD

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.backbones import freeze_batch_norm
from drivetrain.modeling.contract import Batch, Losses
from drivetrain.structures import ImageList

from .adapter import TorchvisionDetector, as_torchvision
from .options import DetectorOptions

__all__ = ["SSDLiteDetector", "build_ssdlite"]

_SIDE = 320


class SSDLiteDetector(TorchvisionDetector, SSD):  # type: ignore[misc]
    """torchvision's SSDLite under the model contract.

    Its classes are one softmax with the background first: class k is output k + 1. The network sees a square of 320
    pixels, of which its default boxes are fractions: a larger image is scaled down to fit, keeping its aspect ratio,
    a smaller one is padded, never enlarged (INPUT.MIN_SIZE_* and MAX_SIZE_* of 320 leave nothing to scale).
    torchvision's published weights were trained with MODEL.PIXEL_MEAN and PIXEL_STD of 127.5.
    """

    background = 1

    def __init__(self, options: DetectorOptions) -> None:
        """Build it with random weights."""
        whole: Any = ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=options.num_classes + 1
        )
        super().__init__(
            whole.backbone,
            whole.anchor_generator,
            (_SIDE, _SIDE),
            options.num_classes + 1,
            head=whole.head,
            score_thresh=options.score_thresh,
            nms_thresh=options.nms_thresh,
            detections_per_img=options.detections_per_image,
            topk_candidates=whole.topk_candidates,
        )
        if options.backbone_norm == "FrozenBN":
            freeze_batch_norm(self.backbone)
        self.adapt(options, size_divisibility=_SIDE)

    def prepare(self, batch: Batch) -> ImageList:
        """The images of a batch, normalised, each in the top left corner of a square of 320 pixels."""
        return self.preprocess.normalize([_fitted(self.preprocess.image(entry)) for entry in batch])

    def losses(self, images: ImageList, targets: list[dict[str, Tensor]]) -> Losses:
        """``loss_cls`` (cross entropy over the hardest background) and ``loss_box_reg`` (smooth L1).

        Raises:
            ModelError: a single image, of which the last batch norm has nothing to take statistics of.
        """
        if len(images) == 1 and any(isinstance(m, nn.BatchNorm2d) and m.training for m in self.modules()):
            raise ModelError(
                "SSDLite's last feature map has one place, so its batch norm needs two or more images per process in "
                "training, but the batch has 1: raise SOLVER.IMS_PER_BATCH"
            )
        outputs, anchors = self._heads(images)
        matches = []
        for target, boxes in zip(targets, anchors, strict=True):
            matches.append(self._matches(target["boxes"], boxes))
        found = self.compute_loss(targets, outputs, anchors, matches)
        return {"loss_cls": found["classification"], "loss_box_reg": found["bbox_regression"]}

    def detections(self, images: ImageList) -> list[dict[str, Tensor]]:
        """See the base class; the score is the class probability."""
        outputs, anchors = self._heads(images)
        found: list[dict[str, Tensor]] = self.postprocess_detections(outputs, anchors, images.image_sizes)
        return found

    def _heads(self, images: ImageList) -> tuple[dict[str, Tensor], list[Tensor]]:
        features = list(self.backbone(images.tensor).values())
        outputs = {name: value.float() for name, value in self.head(features).items()}
        return outputs, self.anchor_generator(as_torchvision(images), features)

    def _matches(self, targets: Tensor, anchors: Tensor) -> Tensor:
        """For each default box the target it stands for, -1 for the background."""
        from torchvision.ops import box_iou

        if not len(targets):
            return targets.new_full((len(anchors),), -1).long()
        matches: Tensor = self.proposal_matcher(box_iou(targets, anchors))
        return matches


def _fitted(image: Tensor) -> Tensor:
    """An image (C, H, W) scaled down to fit the square, or itself where it fits."""
    height, width = image.shape[-2:]
    factor = _SIDE / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return nn.functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]


def build_ssdlite(cfg: CfgNode) -> SSDLiteDetector:
    """SSDLite from a config.

    Raises:
        ModelError: an option is set that this model, which is one fixed network, does not have.
    """
    model = cfg.MODEL
    fixed = {
        "BACKBONE.NAME": model.BACKBONE.NAME,
        "BACKBONE.FREEZE_AT": model.BACKBONE.FREEZE_AT,
        "FPN.OUT_CHANNELS": model.FPN.OUT_CHANNELS,
        "HEAD.NUM_CONVS": model.HEAD.NUM_CONVS,
        "ANCHOR_GENERATOR.SIZES": model.ANCHOR_GENERATOR.SIZES,
        "ANCHOR_GENERATOR.ASPECT_RATIOS": model.ANCHOR_GENERATOR.ASPECT_RATIOS,
    }
    given = [f"MODEL.{key} = {value!r}" for key, value in fixed.items() if value]
    if given:
        raise ModelError(f"{model.NAME!r} is one fixed network and does not take {', '.join(given)}: remove it")
    return SSDLiteDetector(DetectorOptions.from_cfg(cfg))
