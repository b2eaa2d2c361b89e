"""The region proposal network (Ren et al., NeurIPS 2015) with detectron2's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu
from torchvision.ops import batched_nms, clip_boxes_to_image

from drivetrain.modeling.contract import Losses

from .anchors import AnchorGenerator, GivenAnchors
from .regression import BoxLoss, match, sample

__all__ = ["RPN", "Proposals", "RPNHead", "RPNOptions"]

Proposals = list[tuple[Tensor, Tensor]]
"""For each image boxes (N, 4), XYXY in pixels of the padded image, and their objectness logits (N,), falling."""


@dataclass(frozen=True)
class RPNOptions:
    """The numbers of ``MODEL.RPN``; pairs are for training and for testing."""

    loss: BoxLoss = field(default_factory=lambda: BoxLoss((1.0, 1.0, 1.0, 1.0)))
    iou_thresholds: tuple[float, float] = (0.3, 0.7)
    batch_size_per_image: int = 256
    positive_fraction: float = 0.5
    pre_nms_topk: tuple[int, int] = (2000, 1000)
    post_nms_topk: tuple[int, int] = (1000, 1000)
    nms_thresh: float = 0.7
    min_size: float = 0.0
    boundary_thresh: int = -1
    loss_weight: float = 1.0
    box_loss_weight: float = 1.0


class RPNHead(nn.Module):
    """Objectness and box differences of every anchor, by convolutions shared among levels."""

    def __init__(self, channels: int, num_anchors: int, conv_dims: Sequence[int] = (-1,)) -> None:
        """Over feature maps with that many channels; of ``conv_dims`` -1 stands for as many."""
        super().__init__()
        convs = []
        for dim in conv_dims:
            width = channels if dim < 0 else dim
            convs.append(nn.Conv2d(channels, width, 3, padding=1))
            channels = width
        self._names = ("conv",) if len(convs) == 1 else tuple(f"conv.conv{k}" for k in range(len(convs)))
        if len(convs) == 1:
            self.conv: nn.Module = convs[0]
        else:
            self.conv = nn.Module()
            for k, conv in enumerate(convs):
                self.conv.add_module(f"conv{k}", conv)
        self.objectness_logits = nn.Conv2d(channels, num_anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, num_anchors * 4, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """By level: logits (N, H * W * A) and differences (N, H * W * A, 4)."""
        logits, deltas = [], []
        for maps in features:
            for name in self._names:
                maps = relu(self.get_submodule(name)(maps))
            logits.append(self.objectness_logits(maps).permute(0, 2, 3, 1).flatten(1))
            rows = self.anchor_deltas(maps).permute(0, 2, 3, 1)
            deltas.append(rows.reshape(len(rows), -1, 4))
        return logits, deltas


class RPN(nn.Module):
    """Proposes boxes that may hold an object.

    Attributes:
        in_features: names of the feature maps that it looks at, finest first.
    """

    def __init__(
        self, in_features: Sequence[str], head: RPNHead, anchors: AnchorGenerator | GivenAnchors, options: RPNOptions
    ) -> None:
        """Assemble the parts; the head has as many anchors at each place as the generator."""
        super().__init__()
        self.in_features = tuple(in_features)
        self.rpn_head = head
        self.anchor_generator = anchors
        self._options = options

    def forward(
        self, features: Mapping[str, Tensor], sizes: Sequence[tuple[int, int]], truth: Sequence[Tensor] | None
    ) -> tuple[Proposals, Losses]:
        """The proposals of each image and, in training, the losses.

        Args:
            features: (N, C, H, W) by name.
            sizes: (height, width) of each image without padding.
            truth: true boxes (M, 4) of each image, XYXY in pixels; None when not training.
        """
        maps = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(maps)
        logits, deltas = self.rpn_head(maps)
        losses = (
            {}
            if truth is None
            else self._losses(torch.cat(anchors), torch.cat(logits, 1), torch.cat(deltas, 1), truth, sizes)
        )
        with torch.no_grad():
            return self._proposals(anchors, logits, deltas, sizes), losses

    def _losses(
        self,
        anchors: Tensor,
        logits: Tensor,
        deltas: Tensor,
        truth: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
    ) -> Losses:
        options = self._options
        objectness, boxes = logits.sum() * 0, deltas.sum() * 0
        for row, true_boxes in enumerate(truth):
            matches = match(true_boxes, anchors, options.iou_thresholds, allow_low_quality=True)
            if options.boundary_thresh >= 0:
                matches = torch.where(_inside(anchors, sizes[row], options.boundary_thresh), matches, -2)
            positive, negative = sample(matches, options.batch_size_per_image, options.positive_fraction)
            chosen = torch.cat((positive, negative))
            wanted = torch.zeros(len(chosen), device=logits.device)
            wanted[: len(positive)] = 1
            objectness = objectness + binary_cross_entropy_with_logits(logits[row, chosen], wanted, reduction="sum")
            if len(positive):
                boxes = boxes + options.loss(deltas[row, positive], anchors[positive], true_boxes[matches[positive]])
        count = options.batch_size_per_image * len(truth)
        return {
            "loss_rpn_cls": objectness * (options.loss_weight / count),
            "loss_rpn_loc": boxes * (options.loss_weight * options.box_loss_weight / count),
        }

    def _proposals(
        self,
        anchors: Sequence[Tensor],
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
    ) -> Proposals:
        """The best boxes of each level, without those that overlap a better one of their level, best first."""
        options, when = self._options, 0 if self.training else 1
        boxes, scores, levels = [], [], []
        for level, (places, values, rows) in enumerate(zip(anchors, logits, deltas, strict=True)):
            best, index = values.topk(min(options.pre_nms_topk[when], values.shape[1]), dim=1)
            chosen = rows.gather(1, index[..., None].expand(-1, -1, 4))
            decoded = options.loss.decode(chosen.reshape(-1, 4), places[index].reshape(-1, 4))
            boxes.append(decoded.reshape(*index.shape, 4))
            scores.append(best)
            levels.append(torch.full_like(index[0], level))
        level_of = torch.cat(levels)
        return [
            self._kept(image_boxes, image_scores, level_of, size, options.post_nms_topk[when])
            for image_boxes, image_scores, size in zip(torch.cat(boxes, 1), torch.cat(scores, 1), sizes, strict=True)
        ]

    def _kept(
        self, boxes: Tensor, scores: Tensor, level_of: Tensor, size: tuple[int, int], count: int
    ) -> tuple[Tensor, Tensor]:
        finite = boxes.isfinite().all(dim=1) & scores.isfinite()
        boxes = clip_boxes_to_image(boxes, size)
        sides = boxes[:, 2:] - boxes[:, :2]
        usable = finite & (sides > self._options.min_size).all(dim=1)
        boxes, scores, level_of = boxes[usable], scores[usable], level_of[usable]
        keep = batched_nms(boxes, scores, level_of, self._options.nms_thresh)[:count]
        return boxes[keep], scores[keep]


def _inside(boxes: Tensor, size: tuple[int, int], margin: int) -> Tensor:
    """Which boxes lie within an image of (height, width) ``size``, with that margin in pixels."""
    height, width = size
    return (boxes[:, :2] >= -margin).all(dim=1) & (boxes[:, 2] < width + margin) & (boxes[:, 3] < height + margin)
