"""SSD (Liu et al. 2016, arXiv:1512.02325), torchvision's: with VGG16 as published, or on any backbone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.ssd import SSD, SSDHead

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.backbones import FeaturePyramid
from drivetrain.modeling.contract import Batch, Losses
from drivetrain.structures import ImageList

from .adapter import TorchvisionDetector, as_torchvision
from .extra_levels import ExtraLevels
from .options import DetectorOptions

__all__ = ["SSDDetector", "build_ssd", "refuse_options"]


class SSDDetector(TorchvisionDetector, SSD):  # type: ignore[misc]
    """torchvision's SSD under the model contract.

    Its classes are one softmax with the background first: class k is output k + 1.

    Attributes:
        side: of the square that the network sees, in pixels, where its default boxes are fractions of one; a larger
            image is scaled down to fit, keeping its aspect ratio, a smaller one is padded, never enlarged
            (INPUT.MIN_SIZE_* and MAX_SIZE_* of that number leave nothing to scale). None takes any size.
    """

    background = 1

    def __init__(
        self,
        options: DetectorOptions,
        backbone: nn.Module,
        anchor_generator: nn.Module,
        head: nn.Module,
        *,
        side: int | None = None,
        topk_candidates: int = 400,
    ) -> None:
        """Put it together.

        Args:
            options: those of the detector.
            backbone: returns the levels by name, finest first.
            anchor_generator: of torchvision.
            head: of torchvision.
            side: see the attribute.
            topk_candidates: boxes of each class that are considered, best scores first.
        """
        super().__init__(
            backbone,
            anchor_generator,
            (side or 1, side or 1),
            options.num_classes + 1,
            head=head,
            score_thresh=options.score_thresh,
            nms_thresh=options.nms_thresh,
            detections_per_img=options.detections_per_image,
            topk_candidates=topk_candidates,
        )
        self.side = side
        self.adapt(options, size_divisibility=side or 32)

    def prepare(self, batch: Batch) -> ImageList:
        """The images of a batch, normalised, with a fixed ``side`` each in the top left corner of such a square."""
        images = [self.preprocess.image(entry) for entry in batch]
        if self.side is not None:
            images = [_fitted(image, self.side) for image in images]
        return self.preprocess.normalize(images)

    def losses(self, images: ImageList, targets: list[dict[str, Any]]) -> Losses:
        """``loss_cls`` (cross entropy over the hardest background) and ``loss_box_reg`` (smooth L1)."""
        outputs, anchors = self._heads(images)
        matches = [self._matches(target["boxes"], boxes) for target, boxes in zip(targets, anchors, strict=True)]
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


def _fitted(image: Tensor, side: int) -> Tensor:
    """An image (C, H, W) as float, scaled down to fit the square where it does not."""
    height, width = image.shape[-2:]
    factor = side / max(height, width)
    if factor >= 1:
        return image.float()
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return nn.functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]


def refuse_options(cfg: CfgNode, backbone: str = "") -> None:
    """Check that a network that is fixed is not given options of those that are put together.

    Args:
        cfg: the config.
        backbone: the name that its backbone may be given by.

    Raises:
        ModelError: an option is set.
    """
    model = cfg.MODEL
    fixed = {
        "BACKBONE.NAME": model.BACKBONE.NAME.removeprefix(backbone),
        "BACKBONE.FREEZE_AT": model.BACKBONE.FREEZE_AT,
        "FPN.OUT_CHANNELS": model.FPN.OUT_CHANNELS,
        "HEAD.NUM_CONVS": model.HEAD.NUM_CONVS,
        "ANCHOR_GENERATOR.SIZES": model.ANCHOR_GENERATOR.SIZES,
        "ANCHOR_GENERATOR.ASPECT_RATIOS": model.ANCHOR_GENERATOR.ASPECT_RATIOS,
    }
    given = [f"MODEL.{key} = {value!r}" for key, value in fixed.items() if value]
    if given:
        raise ModelError(f"{model.NAME!r} is one fixed network and does not take {', '.join(given)}: remove it")


def build_ssd(cfg: CfgNode) -> SSDDetector:
    """SSD from a config.

    With the backbone ``vgg16`` it is torchvision's SSD300, whose published weights were trained with MODEL.PIXEL_MEAN
    [123, 117, 104] and PIXEL_STD 1. On any other, SSD's head, matching and losses work on the levels of a feature
    pyramid from stride 8 on, one per list of anchor sizes, which are in pixels: it takes images of any size.

    Raises:
        ModelError: an option does not fit.
    """
    options = DetectorOptions.from_cfg(cfg)
    classes = options.num_classes + 1
    if options.backbone == "vgg16":
        refuse_options(cfg, options.backbone)
        if options.backbone_norm:
            raise ModelError(f"MODEL.BACKBONE.NORM is {options.backbone_norm!r}, but VGG16 has no norm: set it to ''")
        whole: Any = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes)
        return SSDDetector(options, whole.backbone, whole.anchor_generator, whole.head, side=300)
    if not options.sizes or not options.channels:
        raise ModelError(
            f"SSD on the backbone {options.backbone!r} needs MODEL.ANCHOR_GENERATOR.SIZES, one list per level from "
            f"stride 8 on, and MODEL.FPN.OUT_CHANNELS, but {options.sizes} and {options.channels} were received"
        )
    strides = options.strides(8)
    body = options.body(strides)
    extra = len(strides) - len(body.strides)
    pyramid = FeaturePyramid(body, options.channels, ExtraLevels(options.channels, extra) if extra else None)
    anchors = AnchorGenerator(options.sizes, options.ratios)
    head = SSDHead([options.channels] * len(strides), anchors.num_anchors_per_location(), classes)
    return SSDDetector(options, pyramid, anchors, head)
