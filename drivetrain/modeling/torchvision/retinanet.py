"""RetinaNet (Lin et al. 2017, arXiv:1708.02002), torchvision's."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops.misc import Conv2dNormActivation

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.backbones import FeaturePyramid
from drivetrain.modeling.contract import Losses
from drivetrain.structures import ImageList

from .adapter import TorchvisionDetector, as_torchvision
from .extra_levels import ExtraLevels
from .options import DetectorOptions

__all__ = ["RetinaNetDetector", "build_retinanet"]


class RetinaNetDetector(TorchvisionDetector, RetinaNet):  # type: ignore[misc]
    """torchvision's RetinaNet under the model contract.

    Its classes are independent sigmoids, so there is no background class: class k is output k. Levels start at
    stride 8, one per list of anchor sizes.
    """

    def __init__(self, options: DetectorOptions) -> None:
        """Build it with random weights.

        Raises:
            ModelError: an option does not fit.
        """
        strides = options.strides(8)
        body = options.body(strides)
        extra = len(strides) - len(body.strides)
        pyramid = FeaturePyramid(body, options.channels, ExtraLevels(options.channels, extra) if extra else None)
        anchors = AnchorGenerator(options.sizes, options.ratios)
        super().__init__(
            pyramid,
            options.num_classes,
            anchor_generator=anchors,
            head=_head(options, anchors.num_anchors_per_location()),
            score_thresh=options.score_thresh,
            nms_thresh=options.nms_thresh,
            detections_per_img=options.detections_per_image,
        )
        self.adapt(options)

    def losses(self, images: ImageList, targets: list[dict[str, Any]]) -> Losses:
        """``loss_cls`` (focal) and ``loss_box_reg`` (L1)."""
        outputs, anchors, _ = self._heads(images)
        found = self.compute_loss(targets, outputs, anchors)
        return {"loss_cls": found["classification"], "loss_box_reg": found["bbox_regression"]}

    def detections(self, images: ImageList) -> list[dict[str, Tensor]]:
        """See the base class; the score is the class probability."""
        outputs, anchors, counts = self._heads(images)
        levels = {name: list(value.split_with_sizes(counts, dim=1)) for name, value in outputs.items()}
        found: list[dict[str, Tensor]] = self.postprocess_detections(
            levels, [list(a.split_with_sizes(counts)) for a in anchors], images.image_sizes
        )
        return found

    def _heads(self, images: ImageList) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        """Head outputs over all levels, anchors per image, and the number of anchors of each level."""
        features = list(self.backbone(images.tensor).values())
        outputs = {name: value.float() for name, value in self.head(features).items()}
        anchors = self.anchor_generator(as_torchvision(images), features)
        per_place = self.anchor_generator.num_anchors_per_location()[0]
        return outputs, anchors, [f.shape[2] * f.shape[3] * per_place for f in features]


def _head(options: DetectorOptions, anchors: list[int]) -> nn.Module:
    """torchvision's head with the wanted number of convolutions."""
    if len(set(anchors)) != 1:
        raise ModelError(
            f"RetinaNet's head is shared by all levels, so they have equally many anchors, but "
            f"MODEL.ANCHOR_GENERATOR.SIZES and ASPECT_RATIOS give {anchors}"
        )
    norm = None
    if options.head_norm == "GN":
        options.require_groups()
        norm = partial(nn.GroupNorm, 32)
    elif options.head_norm:
        raise ModelError(f"MODEL.HEAD.NORM {options.head_norm!r} is not one of '', 'GN'")
    head = RetinaNetHead(options.channels, anchors[0], options.num_classes, norm_layer=norm)
    for part in (head.classification_head, head.regression_head):
        convs = [
            Conv2dNormActivation(options.channels, options.channels, norm_layer=norm) for _ in range(options.num_convs)
        ]
        for conv in convs:
            nn.init.normal_(conv[0].weight, std=0.01)
            if conv[0].bias is not None:
                nn.init.zeros_(conv[0].bias)
        part.conv = nn.Sequential(*convs)
    result: nn.Module = head
    return result


def build_retinanet(cfg: CfgNode) -> RetinaNetDetector:
    """RetinaNet from a config.

    Raises:
        ModelError: an option does not fit.
    """
    return RetinaNetDetector(DetectorOptions.from_cfg(cfg))
