"""SSDLite with MobileNetV3-Large (Howard et al. 2019, arXiv:1905.02244, section 6.3), torchvision's."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.backbones import freeze_batch_norm
from drivetrain.modeling.contract import Losses
from drivetrain.structures import ImageList

from .options import DetectorOptions
from .ssd import SSDDetector, refuse_options

__all__ = ["SSDLiteDetector", "build_ssdlite"]


class SSDLiteDetector(SSDDetector):
    """torchvision's SSDLite under the model contract: SSD of a square of 320 pixels.

    torchvision's published weights were trained with MODEL.PIXEL_MEAN and PIXEL_STD of 127.5.
    """

    def __init__(self, options: DetectorOptions) -> None:
        """Build it with random weights."""
        whole: Any = ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=options.num_classes + 1
        )
        if options.backbone_norm == "FrozenBN":
            freeze_batch_norm(whole.backbone)
        super().__init__(
            options,
            whole.backbone,
            whole.anchor_generator,
            whole.head,
            side=320,
            topk_candidates=whole.topk_candidates,
        )

    def losses(self, images: ImageList, targets: list[dict[str, Any]]) -> Losses:
        """Those of SSD.

        Raises:
            ModelError: a single image, of which the last batch norm has nothing to take statistics of.
        """
        if len(images) == 1 and any(isinstance(m, nn.BatchNorm2d) and m.training for m in self.modules()):
            raise ModelError(
                "SSDLite's last feature map has one place, so its batch norm needs two or more images per process in "
                "training, but the batch has 1: raise SOLVER.IMS_PER_BATCH"
            )
        return super().losses(images, targets)


def build_ssdlite(cfg: CfgNode) -> SSDLiteDetector:
    """SSDLite from a config.

    Raises:
        ModelError: an option is set that this model, which is one fixed network, does not have.
    """
    refuse_options(cfg)
    return SSDLiteDetector(DetectorOptions.from_cfg(cfg))
