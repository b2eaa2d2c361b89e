"""FCOS (Tian et al. 2019, arXiv:1904.01355), torchvision's."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.backbones import FeaturePyramid
from drivetrain.modeling.contract import Losses
from drivetrain.structures import ImageList

from .adapter import TorchvisionDetector, as_torchvision
from .extra_levels import ExtraLevels
from .options import DetectorOptions

__all__ = ["FCOSDetector", "build_fcos"]


class FCOSDetector(TorchvisionDetector, FCOS):  # type: ignore[misc]
    """torchvision's FCOS under the model contract.

    Its classes are independent sigmoids, so there is no background class: class k is output k. The one "anchor" size
    per level is the level's stride.
    """

    def __init__(self, options: DetectorOptions) -> None:
        """Build it with random weights.

        Raises:
            ModelError: the anchor sizes are not strides, or an option does not fit.
        """
        strides = _strides(options)
        options.require_groups()
        body = options.body(strides)
        extra = len(strides) - len(body.strides)
        pyramid = FeaturePyramid(body, options.channels, ExtraLevels(options.channels, extra) if extra else None)
        super().__init__(
            pyramid,
            options.num_classes,
            anchor_generator=AnchorGenerator(options.sizes, ((1.0,),) * len(strides)),
            head=FCOSHead(options.channels, 1, options.num_classes, options.num_convs),
            score_thresh=options.score_thresh,
            nms_thresh=options.nms_thresh,
            detections_per_img=options.detections_per_image,
        )
        self.adapt(options)

    def losses(self, images: ImageList, targets: list[dict[str, Any]]) -> Losses:
        """``loss_cls`` (focal), ``loss_box_reg`` (GIoU) and ``loss_centerness``."""
        outputs, anchors, counts = self._heads(images)
        found = self.compute_loss(targets, outputs, anchors, counts)
        return {
            "loss_cls": found["classification"],
            "loss_box_reg": found["bbox_regression"],
            "loss_centerness": found["bbox_ctrness"],
        }

    def detections(self, images: ImageList) -> list[dict[str, Tensor]]:
        """See the base class; the score is the geometric mean of class probability and centerness."""
        outputs, anchors, counts = self._heads(images)
        levels = {name: list(value.split_with_sizes(counts, dim=1)) for name, value in outputs.items()}
        found: list[dict[str, Tensor]] = self.postprocess_detections(
            levels, [list(a.split_with_sizes(counts)) for a in anchors], images.image_sizes
        )
        return found

    def _heads(self, images: ImageList) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        """Head outputs over all levels, anchors per image, and the number of places of each level."""
        features = list(self.backbone(images.tensor).values())
        outputs = {name: value.float() for name, value in self.head(features).items()}
        anchors = self.anchor_generator(as_torchvision(images), features)
        return outputs, anchors, [f.shape[2] * f.shape[3] for f in features]


def _strides(options: DetectorOptions) -> tuple[int, ...]:
    """The levels' strides, which FCOS takes from the anchor sizes."""
    strides = options.strides(int(options.sizes[0][0]))
    if options.sizes != tuple((s,) for s in strides) or set(options.ratios) != {(1.0,)}:
        raise ModelError(
            f"FCOS has no anchors: MODEL.ANCHOR_GENERATOR.SIZES holds the stride of each level, doubling, as in "
            f"[[8], [16], [32]], and ASPECT_RATIOS stays [], but {options.sizes} and {options.ratios} were received"
        )
    return strides


def build_fcos(cfg: CfgNode) -> FCOSDetector:
    """FCOS from a config; the strides of its levels are MODEL.ANCHOR_GENERATOR.SIZES.

    Raises:
        ModelError: an option does not fit.
    """
    return FCOSDetector(DetectorOptions.from_cfg(cfg))
