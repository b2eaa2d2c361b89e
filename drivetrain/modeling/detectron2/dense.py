"""What RetinaNet and FCOS share: predictions at every place of every level, by layers that all levels share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torchvision.ops import batched_nms, sigmoid_focal_loss

from drivetrain.modeling.preprocess import Preprocess
from drivetrain.structures import ImageList, Instances

from .adapter import Detector
from .anchors import AnchorGenerator, GivenAnchors
from .layers import get_norm

__all__ = [
    "DenseDetector",
    "DenseHead",
    "DenseOptions",
    "LevelBatchNorm",
    "Tower",
    "best_of_levels",
    "by_place",
    "detections_of_image",
    "focal_loss",
]


@dataclass(frozen=True)
class DenseOptions:
    """The numbers of losses and predictions that both have."""

    num_classes: int
    focal_loss_alpha: float = 0.25
    focal_loss_gamma: float = 2.0
    score_thresh: float = 0.05
    topk_candidates: int = 1000
    nms_thresh: float = 0.5
    detections_per_image: int = 100


class LevelBatchNorm(nn.ModuleList):
    """Batch norms with statistics of each level, and one weight and bias for all.

    Attributes:
        weight, bias: (channels,).
    """

    def __init__(self, norm: str, channels: int, num_levels: int) -> None:
        """``norm`` is "BN" or "SyncBN"."""
        kind = nn.BatchNorm2d if norm == "BN" else nn.SyncBatchNorm
        super().__init__(kind(channels, affine=False) for _ in range(num_levels))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor, level: int) -> Tensor:
        """Features (N, C, H, W) of a level, counted from 0 for the finest."""
        normed: Tensor = self[level](features)
        return normed * self.weight.reshape(1, -1, 1, 1) + self.bias.reshape(1, -1, 1, 1)


class Tower(nn.Sequential):
    """Convolutions, each with its norm and ReLU; of batch norms every level has its own statistics."""

    def __init__(self, channels: int, conv_dims: Sequence[int], norm: str, num_levels: int) -> None:
        """Layers over features (N, channels, H, W) of each of ``num_levels`` levels."""
        layers: list[nn.Module] = []
        for width in conv_dims:
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            channels = width
            if norm in ("BN", "SyncBN"):
                layers.append(LevelBatchNorm(norm, width, num_levels))
            elif (layer := get_norm(norm, width, "NORM of the head")) is not None:
                layers.append(layer)
            layers.append(nn.ReLU())
        super().__init__(*layers)

    def forward(self, features: Tensor, level: int) -> Tensor:  # type: ignore[override]
        """Features (N, C, H, W) of a level, counted from 0 for the finest, to (N, C', H, W)."""
        for layer in self:
            features = layer(features, level) if isinstance(layer, LevelBatchNorm) else layer(features)
        return features


class DenseHead(nn.Module):
    """Class scores and box differences of every anchor, by two towers of convolutions."""

    def __init__(
        self,
        channels: int,
        num_levels: int,
        num_anchors: int,
        num_classes: int,
        *,
        conv_dims: Sequence[int],
        norm: str = "",
        prior_prob: float = 0.01,
    ) -> None:
        """Layers over feature maps.

        Args:
            channels: of the feature maps.
            num_levels: of feature maps.
            num_anchors: at each place.
            num_classes: without background.
            conv_dims: channels of the convolutions of each tower.
            norm: their normalisation.
            prior_prob: the score that the untrained head gives.
        """
        super().__init__()
        self.cls_subnet = Tower(channels, conv_dims, norm, num_levels)
        self.bbox_subnet = Tower(channels, conv_dims, norm, num_levels)
        width = conv_dims[-1] if conv_dims else channels
        self.cls_score = nn.Conv2d(width, num_anchors * num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(width, num_anchors * 4, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]
        self._num_classes = num_classes

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        """By level: logits (N, H * W * A, K) and differences (N, H * W * A, 4)."""
        logits, deltas = [], []
        for level, maps in enumerate(features):
            logits.append(by_place(self.cls_score(self.cls_subnet(maps, level)), self._num_classes))
            deltas.append(by_place(self.bbox_pred(self.bbox_subnet(maps, level)), 4))
        return logits, deltas


def by_place(maps: Tensor, width: int) -> Tensor:
    """Predictions (N, A * width, H, W) as (N, H * W * A, width)."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, width)


class DenseDetector(Detector):
    """Backbone, head and anchors, and the number that losses are divided by.

    Attributes:
        loss_normalizer: the moving average of objects' anchors per batch.
    """

    loss_normalizer: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: DenseHead,
        anchors: AnchorGenerator | GivenAnchors,
        preprocess: Preprocess,
        features: Sequence[str],
        options: DenseOptions,
        loss_normalizer: float,
    ) -> None:
        """Assemble the parts.

        Args:
            backbone: images to feature maps by name.
            head: feature maps to predictions.
            anchors: as many at each place as the head has.
            preprocess: normalises and pads.
            features: names of the backbone's outputs, finest first.
            options: the numbers.
            loss_normalizer: where the moving average starts.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.anchor_generator = anchors
        self.preprocess = preprocess
        self.num_classes = options.num_classes
        self._features = tuple(features)
        self.register_buffer("loss_normalizer", torch.tensor(loss_normalizer))

    def maps(self, images: ImageList) -> list[Tensor]:
        """The feature maps (N, C, H, W) that the head looks at, finest first."""
        features = self.backbone(images.tensor)
        return [features[name] for name in self._features]

    def update_normalizer(self, count: int) -> Tensor:
        """What to divide losses by, after a batch in which so many anchors are objects."""
        return self.loss_normalizer.mul_(0.9).add_(0.1 * max(count, 1))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Take up a state; detectron2's have no ``loss_normalizer``, which then stays as it is."""
        state_dict.setdefault(f"{prefix}loss_normalizer", self.loss_normalizer)
        super()._load_from_state_dict(state_dict, prefix, *args)


def focal_loss(logits: Tensor, classes: Tensor, options: DenseOptions) -> Tensor:
    """The sum of focal losses (Lin et al., ICCV 2017) of logits (N, K) whose ``classes`` (N,) are K for background."""
    wanted = one_hot(classes, options.num_classes + 1)[:, :-1].to(logits.dtype)
    loss: Tensor = sigmoid_focal_loss(
        logits, wanted, options.focal_loss_alpha, options.focal_loss_gamma, reduction="sum"
    )
    return loss


Decode = Callable[[Tensor, Tensor], Tensor]
"""Differences (N, 4) and anchors (N, 4) to boxes (N, 4), XYXY in pixels."""


def detections_of_image(
    scores: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    decode: Decode,
    size: tuple[int, int],
    options: DenseOptions,
) -> Instances:
    """``pred_boxes`` (M, 4), ``scores`` and ``pred_classes`` in an image of (height, width) ``size``, best first.

    Args:
        scores: by level (N, K), from 0 to 1.
        deltas: by level (N, 4).
        anchors: by level (N, 4) XYXY.
        decode: turns differences into boxes.
        size: of the image without padding.
        options: thresholds and numbers of detections.
    """
    boxes, kept, kinds = best_of_levels(scores, deltas, anchors, decode, options)
    keep = batched_nms(boxes, kept, kinds, options.nms_thresh)[: options.detections_per_image]
    return Instances(size, pred_boxes=boxes[keep], scores=kept[keep], pred_classes=kinds[keep])


def best_of_levels(
    scores: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    decode: Decode,
    options: DenseOptions,
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 4), scores and classes of one image: the best candidates of each level above the threshold."""
    parts = []
    for values, rows, places in zip(scores, deltas, anchors, strict=True):
        flat = values.flatten()
        good = (flat > options.score_thresh).nonzero().flatten()
        best, order = flat[good].topk(min(options.topk_candidates, len(good)))
        chosen = good[order]
        index = torch.div(chosen, options.num_classes, rounding_mode="floor")
        parts.append((decode(rows[index], places[index]), best, chosen % options.num_classes))
    boxes, kept, kinds = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return boxes, kept, kinds
