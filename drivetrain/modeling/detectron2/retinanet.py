"""RetinaNet (Lin et al., ICCV 2017) with detectron2's parameter names, numbers and losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torchvision.ops import batched_nms, sigmoid_focal_loss

from drivetrain.modeling.contract import Losses
from drivetrain.modeling.preprocess import Preprocess
from drivetrain.structures import ImageList, Instances

from .adapter import Detector
from .anchors import AnchorGenerator
from .layers import get_norm
from .regression import BoxLoss, match

__all__ = ["RetinaNet", "RetinaNetHead", "RetinaNetOptions", "best_of_levels"]


@dataclass(frozen=True)
class RetinaNetOptions:
    """The numbers of ``MODEL.RETINANET``."""

    num_classes: int
    loss: BoxLoss = field(default_factory=lambda: BoxLoss((1.0, 1.0, 1.0, 1.0), beta=0.1))
    iou_thresholds: tuple[float, float] = (0.4, 0.5)
    num_convs: int = 4
    norm: str = ""
    prior_prob: float = 0.01
    focal_loss_alpha: float = 0.25
    focal_loss_gamma: float = 2.0
    score_thresh: float = 0.05
    topk_candidates: int = 1000
    nms_thresh: float = 0.5
    detections_per_image: int = 100


class RetinaNetHead(nn.Module):
    """Class scores and box differences of every anchor, by two towers of convolutions shared among levels."""

    def __init__(self, channels: int, num_anchors: int, options: RetinaNetOptions) -> None:
        """Over feature maps with that many channels."""
        super().__init__()
        self.cls_subnet = self._tower(channels, options)
        self.bbox_subnet = self._tower(channels, options)
        self.cls_score = nn.Conv2d(channels, num_anchors * options.num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(channels, num_anchors * 4, 3, padding=1)
        self._num_classes = options.num_classes
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.cls_score.bias, -math.log((1 - options.prior_prob) / options.prior_prob))  # type: ignore[arg-type]

    @staticmethod
    def _tower(channels: int, options: RetinaNetOptions) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(options.num_convs):
            layers.append(nn.Conv2d(channels, channels, 3, padding=1))
            norm = get_norm(options.norm, channels, "MODEL.RETINANET.NORM")
            if norm is not None:
                layers.append(norm)
            layers.append(nn.ReLU())
        return nn.Sequential(*layers)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """By level: logits (N, H * W * A, K) and differences (N, H * W * A, 4)."""
        logits, deltas = [], []
        for maps in features:
            scores = self.cls_score(self.cls_subnet(maps)).permute(0, 2, 3, 1)
            boxes = self.bbox_pred(self.bbox_subnet(maps)).permute(0, 2, 3, 1)
            logits.append(scores.reshape(len(scores), -1, self._num_classes))
            deltas.append(boxes.reshape(len(boxes), -1, 4))
        return logits, deltas


class RetinaNet(Detector):
    """A one-stage detector with focal loss.

    Attributes:
        loss_normalizer: the moving average of objects' anchors per batch that losses are divided by.
    """

    loss_normalizer: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: RetinaNetHead,
        anchors: AnchorGenerator,
        preprocess: Preprocess,
        features: Sequence[str],
        options: RetinaNetOptions,
    ) -> None:
        """Assemble the parts; the features are names of the backbone's outputs, finest first."""
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.anchor_generator = anchors
        self.preprocess = preprocess
        self.num_classes = options.num_classes
        self._features, self._options = tuple(features), options
        self.register_buffer("loss_normalizer", torch.tensor(100.0))

    def losses(self, images: ImageList, truth: Sequence[Instances]) -> Losses:
        """``loss_cls`` and ``loss_box_reg``."""
        options = self._options
        features = self.backbone(images.tensor)
        maps = [features[name] for name in self._features]
        anchors = torch.cat(self.anchor_generator(maps))
        logits, deltas = (torch.cat(parts, dim=1) for parts in self.head(maps))
        classes, boxes, count = logits.sum() * 0, deltas.sum() * 0, 0
        for row, objects in enumerate(truth):
            true_boxes = objects.gt_boxes.tensor
            matches = match(true_boxes, anchors, options.iou_thresholds, allow_low_quality=True)
            found, used = (matches >= 0).nonzero().flatten(), (matches >= -1).nonzero().flatten()
            kinds = torch.full_like(matches, options.num_classes)
            kinds[found] = objects.gt_classes[matches[found]]
            wanted = one_hot(kinds[used], options.num_classes + 1)[:, :-1].to(logits.dtype)
            classes = classes + sigmoid_focal_loss(
                logits[row, used], wanted, options.focal_loss_alpha, options.focal_loss_gamma, reduction="sum"
            )
            if len(found):
                boxes = boxes + options.loss(deltas[row, found], anchors[found], true_boxes[matches[found]])
            count += len(found)
        self.loss_normalizer.mul_(0.9).add_(0.1 * max(count, 1))
        return {"loss_cls": classes / self.loss_normalizer, "loss_box_reg": boxes / self.loss_normalizer}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        """Take up a state; detectron2's have no ``loss_normalizer``, which then stays as it is."""
        state_dict.setdefault(f"{prefix}loss_normalizer", self.loss_normalizer)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def detections(self, images: ImageList) -> list[Instances]:
        """Of each image ``pred_boxes`` (N, 4), ``scores`` and ``pred_classes``, best first."""
        options = self._options
        features = self.backbone(images.tensor)
        maps = [features[name] for name in self._features]
        anchors = self.anchor_generator(maps)
        logits, deltas = self.head(maps)
        found = []
        for row, size in enumerate(images.image_sizes):
            boxes, scores, kinds = best_of_levels(
                [level[row].sigmoid() for level in logits], [level[row] for level in deltas], anchors, options
            )
            keep = batched_nms(boxes, scores, kinds, options.nms_thresh)[: options.detections_per_image]
            found.append(Instances(size, pred_boxes=boxes[keep], scores=scores[keep], pred_classes=kinds[keep]))
        return found


def best_of_levels(
    scores: Sequence[Tensor], deltas: Sequence[Tensor], anchors: Sequence[Tensor], options: RetinaNetOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 4), scores and classes of one image: the best candidates of each level above the threshold."""
    parts = []
    for values, rows, places in zip(scores, deltas, anchors, strict=True):
        flat = values.flatten()
        good = (flat > options.score_thresh).nonzero().flatten()
        best, order = flat[good].topk(min(options.topk_candidates, len(good)))
        chosen = good[order]
        index = torch.div(chosen, options.num_classes, rounding_mode="floor")
        parts.append((options.loss.decode(rows[index], places[index]), best, chosen % options.num_classes))
    boxes, kept, kinds = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return boxes, kept, kinds
