"""The second stage's layers for boxes: features of a box to its class and its final place."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu, softmax
from torchvision.ops import batched_nms, clip_boxes_to_image

from drivetrain.modeling.contract import Losses

from .layers import NormConv2d
from .regression import BoxLoss

__all__ = ["BoxHead", "BoxPredictor", "PredictorOptions"]


class BoxHead(nn.Module):
    """Convolutions, then fully connected layers.

    Attributes:
        channels: of the result.
    """

    def __init__(
        self, channels: int, size: int, conv_dims: tuple[int, ...], fc_dims: tuple[int, ...], norm: str
    ) -> None:
        """Layers over features (N, channels, size, size)."""
        super().__init__()
        self._convs: tuple[str, ...] = tuple(f"conv{k + 1}" for k in range(len(conv_dims)))
        for name, width in zip(self._convs, conv_dims, strict=True):
            conv = NormConv2d(channels, width, 3, padding=1, norm=norm, activation=relu)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.add_module(name, conv)
            channels = width
        if fc_dims:
            channels *= size * size
        self._fcs: tuple[str, ...] = tuple(f"fc{k + 1}" for k in range(len(fc_dims)))
        for name, width in zip(self._fcs, fc_dims, strict=True):
            layer = nn.Linear(channels, width)
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
            self.add_module(name, layer)
            channels = width
        self.channels = channels

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, size, size) to (N, channels), or to (N, channels, size, size) without fully connected layers."""
        for name in self._convs:
            features = self.get_submodule(name)(features)
        if self._fcs:
            features = features.flatten(1)
        for name in self._fcs:
            features = relu(self.get_submodule(name)(features))
        return features


@dataclass(frozen=True)
class PredictorOptions:
    """The numbers of ``MODEL.ROI_HEADS`` and ``MODEL.ROI_BOX_HEAD`` that losses and predictions depend on."""

    num_classes: int
    loss: BoxLoss = field(default_factory=lambda: BoxLoss((10.0, 10.0, 5.0, 5.0)))
    class_agnostic: bool = False
    score_thresh: float = 0.05
    nms_thresh: float = 0.5
    detections_per_image: int = 100
    box_loss_weight: float = 1.0


class BoxPredictor(nn.Module):
    """Scores of all classes, the background last, and box differences."""

    def __init__(self, channels: int, options: PredictorOptions) -> None:
        """Layers over features (N, channels)."""
        super().__init__()
        self.options = options
        self.cls_score = nn.Linear(channels, options.num_classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 * (1 if options.class_agnostic else options.num_classes))
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        for layer in (self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, K + 1) before softmax, and differences (N, K * 4)."""
        features = features.flatten(1)
        return self.cls_score(features), self.bbox_pred(features)

    def losses(self, scores: Tensor, deltas: Tensor, proposals: Tensor, classes: Tensor, truth: Tensor) -> Losses:
        """The losses of all boxes that were sampled.

        Args:
            scores: (N, K + 1).
            deltas: (N, K * 4).
            proposals: (N, 4) XYXY.
            classes: (N,) int64, K for background.
            truth: (N, 4) XYXY, the true box of each; any where the class is background.
        """
        options = self.options
        found = (classes < options.num_classes).nonzero().flatten()
        rows = deltas.view(len(deltas), deltas.shape[1] // 4, 4)
        chosen = rows[found, 0 if options.class_agnostic else classes[found]]
        boxes = options.loss(chosen, proposals[found], truth[found]) / max(len(classes), 1)
        return {
            "loss_cls": cross_entropy(scores, classes) if len(classes) else scores.sum() * 0,
            "loss_box_reg": boxes * options.box_loss_weight,
        }

    def detections(
        self, scores: Tensor, deltas: Tensor, proposals: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (M, 4), scores (M,) and classes (M,) of one image of (height, width) ``size``, best first."""
        options = self.options
        probabilities = softmax(scores, dim=-1)
        boxes = options.loss.decode(deltas, proposals)
        finite = boxes.flatten(1).isfinite().all(dim=1) & probabilities.isfinite().all(dim=1)
        probabilities, boxes = probabilities[finite, :-1], boxes[finite]
        boxes = clip_boxes_to_image(boxes.reshape(-1, 4), size).view(len(probabilities), deltas.shape[1] // 4, 4)
        row, kind = (probabilities > options.score_thresh).nonzero(as_tuple=True)
        candidates = boxes[row, torch.zeros_like(kind) if options.class_agnostic else kind]
        values = probabilities[row, kind]
        keep = batched_nms(candidates, values, kind, options.nms_thresh)
        if options.detections_per_image >= 0:
            keep = keep[: options.detections_per_image]
        return candidates[keep], values[keep], kind[keep]
