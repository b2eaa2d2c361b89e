"""Semantic segmentation: FCN, DeepLabV3 and LR-ASPP, torchvision's, as published or on any backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.models.segmentation.fcn import FCN, FCNHead
from torchvision.models.segmentation.lraspp import LRASPP

from drivetrain.config import CfgNode
from drivetrain.errors import ModelError
from drivetrain.modeling.adapted import AdaptedModel
from drivetrain.modeling.backbones import Body, build_body, freeze_batch_norm
from drivetrain.modeling.contract import Batch, Losses, Outputs
from drivetrain.modeling.preprocess import Preprocess
from drivetrain.modeling.targets import IGNORE_LABEL, label_map

__all__ = [
    "DeepLabV3Segmenter",
    "FCNSegmenter",
    "LRASPPSegmenter",
    "NamedFeatures",
    "SegmentationOptions",
    "TorchvisionSegmenter",
    "build_segmenter",
]

_PUBLISHED = {
    "fcn": ("resnet50", "resnet101"),
    "deeplabv3": ("resnet50", "resnet101", "mobilenet_v3_large"),
    "lraspp": ("mobilenet_v3_large",),
}
"""Head -> the backbones with which torchvision has it, dilated to a stride of 8 or 16."""


@dataclass(frozen=True)
class SegmentationOptions:
    """What ``cfg.MODEL`` says about a segmentation model, a preset's values filled in.

    Attributes:
        num_classes: with the background, where it is a class.
        head: ``"fcn"``, ``"deeplabv3"`` or ``"lraspp"``.
        channels: of LR-ASPP's head; 0 is its own 128.
        aux_weight: of the loss of a second head on an earlier feature map; 0 for none.
        ignore_label: pixels with it count nowhere.
        backbone: name, see ``build_body``.
        freeze_at: see ``build_body``.
        backbone_norm: see ``build_body``.
        pixel_mean: per channel, 0..255 scale.
        pixel_std: per channel, 0..255 scale.
    """

    num_classes: int
    head: str
    channels: int
    aux_weight: float
    ignore_label: int
    backbone: str
    freeze_at: int
    backbone_norm: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> SegmentationOptions:
        """Read them from a config.

        Raises:
            ModelError: there is no such head, or it takes no auxiliary loss.
        """
        model = cfg.MODEL
        section = model.get("SEM_SEG_HEAD", {})
        head, weight = section.get("NAME", ""), section.get("AUX_WEIGHT", 0.0)
        if head not in _PUBLISHED:
            raise ModelError(f"MODEL.SEM_SEG_HEAD.NAME {head!r} is not one of {', '.join(map(repr, _PUBLISHED))}")
        if weight and head == "lraspp":
            raise ModelError(f"MODEL.SEM_SEG_HEAD.AUX_WEIGHT is {weight}, but LR-ASPP has no second head: set it to 0")
        return cls(
            num_classes=model.NUM_CLASSES,
            head=head,
            channels=section.get("CONVS_DIM", 0),
            aux_weight=weight,
            ignore_label=section.get("IGNORE_VALUE", IGNORE_LABEL),
            backbone=model.BACKBONE.NAME,
            freeze_at=model.BACKBONE.FREEZE_AT,
            backbone_norm=model.BACKBONE.NORM,
            pixel_mean=tuple(model.PIXEL_MEAN),
            pixel_std=tuple(model.PIXEL_STD),
        )


class TorchvisionSegmenter(AdaptedModel):
    """Mixed into a torchvision segmentation model, in front of it, to make it keep the model contract.

    In training the target is ``sem_seg``; images of different sizes are padded at the right and bottom, where nothing
    counts. The losses are ``loss_sem_seg`` and, of a second head, ``loss_aux``. In evaluation no image is padded.
    Parameter names stay torchvision's.

    Attributes:
        num_classes: with the background, where it is a class.
        options: what it was built from.
    """

    options: SegmentationOptions

    def adapt(self, options: SegmentationOptions) -> None:
        """Set up the shared parts; called at the end of a subclass's constructor."""
        self.num_classes, self.options = options.num_classes, options
        self.preprocess = Preprocess(options.pixel_mean, options.pixel_std, size_divisibility=1)

    def batch_losses(self, batch: Batch) -> Losses:
        """See the class.

        Raises:
            ModelError: an entry has no ``sem_seg``, or one that does not fit the image or the classes.
        """
        images = self.preprocess(batch)
        labels = self._labels(batch, images.image_sizes, images.tensor.shape[-2:])
        count = (labels != self.options.ignore_label).sum().clamp(min=1)  # all may be unknown
        logits = self._logits(images.tensor)
        losses = {"loss_sem_seg": self._loss(logits["out"], labels) / count}
        if "aux" in logits:
            losses["loss_aux"] = self.options.aux_weight * self._loss(logits["aux"], labels) / count
        return losses

    def batch_outputs(self, batch: Batch) -> Outputs:
        """``sem_seg`` per image: the logits of each class, brought to the original image's size bilinearly."""
        scores = self._logits(self.preprocess(batch).tensor)["out"]
        return [{"sem_seg": _in_original(of_image, entry)} for of_image, entry in zip(scores, batch, strict=True)]

    def _logits(self, images: Tensor) -> dict[str, Tensor]:
        """torchvision's outputs for prepared images, ``out`` and perhaps ``aux``, each (N, K, H, W)."""
        outputs: dict[str, Tensor] = super(AdaptedModel, self).forward(images)
        return {name: value.float() for name, value in outputs.items()}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, ignore_index=self.options.ignore_label, reduction="sum")

    def _labels(self, batch: Batch, sizes: Sequence[tuple[int, int]], padded: Sequence[int]) -> Tensor:
        """The label maps of a batch in one tensor, int64 (N, H, W), on the model's device."""
        options, device = self.options, self.preprocess.device
        labels = torch.full((len(batch), *padded), options.ignore_label, device=device)
        for row, entry, (height, width) in zip(labels, batch, sizes, strict=True):
            given = label_map(entry, (height, width), options.num_classes, options.ignore_label)
            row[:height, :width] = given.to(device, non_blocking=True)
        return labels


class FCNSegmenter(TorchvisionSegmenter, FCN):  # type: ignore[misc]
    """torchvision's FCN (Long et al. 2014, arXiv:1411.4038) under the model contract."""


class DeepLabV3Segmenter(TorchvisionSegmenter, DeepLabV3):  # type: ignore[misc]
    """torchvision's DeepLabV3 (Chen et al. 2017, arXiv:1706.05587) under the model contract."""

    def batch_losses(self, batch: Batch) -> Losses:
        """See the base class.

        Raises:
            ModelError: as there, or the batch has one image and the batch norms are to learn.
        """
        if len(batch) == 1 and any(isinstance(m, nn.BatchNorm2d) and m.training for m in self.modules()):
            raise ModelError(
                "DeepLabV3 pools each image to one place, so the batch norm behind it needs two or more images per "
                "process in training, but the batch has 1: raise SOLVER.IMS_PER_BATCH"
            )
        return super().batch_losses(batch)


class LRASPPSegmenter(TorchvisionSegmenter, LRASPP):  # type: ignore[misc]
    """torchvision's LR-ASPP (Howard et al. 2019, arXiv:1905.02244, section 6.4) under the model contract."""


class NamedFeatures(nn.Module):
    """A backbone that returns its feature maps under the names that a segmentation model asks for."""

    def __init__(self, body: Body, names: Sequence[str]) -> None:
        """Give the maps of ``body``, finest first, these names."""
        super().__init__()
        self.body = body.module
        self._names = tuple(names)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The named feature maps of images (N, 3, H, W)."""
        return dict(zip(self._names, self.body(images), strict=True))


def _in_original(maps: Tensor, entry: dict[str, Any]) -> Tensor:
    """Maps (K, h, w) over the image of an entry of a batch as maps (K, height, width) over the original one."""
    size = (int(entry.get("height", maps.shape[-2])), int(entry.get("width", maps.shape[-1])))
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def build_segmenter(cfg: CfgNode) -> TorchvisionSegmenter:
    """The segmentation model with the head ``MODEL.SEM_SEG_HEAD.NAME`` on the backbone ``MODEL.BACKBONE.NAME``.

    Where torchvision has this pair it is torchvision's, dilated. On any other backbone the head sees the feature map of
    stride 16 (FCN, DeepLabV3; that of stride 8 is for their second head) or those of strides 4 and 16 (LR-ASPP).

    Raises:
        ModelError: an option does not fit.
    """
    options = SegmentationOptions.from_cfg(cfg)
    published = options.backbone in _PUBLISHED[options.head] and not options.channels
    model = _published(options) if published else _put_together(options)
    model.adapt(options)
    return model


def _published(options: SegmentationOptions) -> TorchvisionSegmenter:
    """torchvision's own model of a head and a backbone."""
    if options.freeze_at:
        raise ModelError(
            f"MODEL.BACKBONE.FREEZE_AT is {options.freeze_at}, but {options.head} on {options.backbone} is one fixed "
            "network: set it to 0"
        )
    second = {"aux_loss": True} if options.aux_weight else {}
    name = f"{options.head}_{options.backbone}"
    classes = options.num_classes
    whole: Any = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=classes, **second)
    if options.backbone_norm == "FrozenBN":
        freeze_batch_norm(whole.backbone)
    if options.head != "lraspp":
        kind = FCNSegmenter if options.head == "fcn" else DeepLabV3Segmenter
        return kind(whole.backbone, whole.classifier, whole.aux_classifier)
    head = whole.classifier
    return LRASPPSegmenter(whole.backbone, head.low_classifier.in_channels, head.cbr[0].in_channels, classes)


def _put_together(options: SegmentationOptions) -> TorchvisionSegmenter:
    """One of torchvision's heads on a backbone of any name."""
    strides = {"lraspp": (4, 16)}.get(options.head, (8, 16) if options.aux_weight else (16,))
    body = build_body(options.backbone, strides, freeze_at=options.freeze_at, norm=options.backbone_norm)
    if len(body.strides) != len(strides):
        raise ModelError(
            f"backbone {options.backbone!r} (MODEL.BACKBONE.NAME) has feature maps of strides {list(body.strides)}, "
            f"but {options.head} needs {list(strides)}: choose another backbone"
        )
    classes = options.num_classes
    if options.head == "lraspp":
        low, high = body.channels
        return LRASPPSegmenter(NamedFeatures(body, ("low", "high")), low, high, classes, options.channels or 128)
    second = FCNHead(body.channels[0], classes) if options.aux_weight else None
    features = NamedFeatures(body, ("aux", "out") if options.aux_weight else ("out",))
    if options.head == "fcn":
        return FCNSegmenter(features, FCNHead(body.channels[-1], classes), second)
    return DeepLabV3Segmenter(features, DeepLabHead(body.channels[-1], classes), second)
