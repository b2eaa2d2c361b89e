"""Boxes as differences from reference boxes, and the losses on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher
from torchvision.ops import (
    box_iou,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

from drivetrain.errors import ModelError

__all__ = ["BoxLoss", "match", "sample"]

_OVERLAP_LOSSES = {
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}


class BoxLoss:
    """The sum of regression losses over boxes.

    Attributes:
        coder: turns differences into boxes and back, with the weights of the config.
    """

    def __init__(self, weights: Sequence[float], kind: str = "smooth_l1", beta: float = 0.0) -> None:
        """Define the loss.

        Args:
            weights: factors on the differences dx, dy, dw, dh.
            kind: "smooth_l1" on the differences; "giou", "diou" or "ciou" on the boxes.
            beta: where smooth L1 turns from square to linear; 0 is L1.

        Raises:
            ModelError: there is no loss of this name.
        """
        if kind != "smooth_l1" and kind not in _OVERLAP_LOSSES:
            raise ModelError(f"BBOX_REG_LOSS_TYPE must be smooth_l1, giou, diou or ciou, not {kind!r}")
        self.coder = BoxCoder(tuple(weights))
        self._kind, self._beta = kind, beta

    def decode(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """The boxes (N, 4 * K) XYXY that ``deltas`` (N, 4 * K) make of reference boxes (N, 4)."""
        decoded: Tensor = self.coder.decode_single(deltas, boxes)
        return decoded

    def __call__(self, deltas: Tensor, references: Tensor, targets: Tensor) -> Tensor:
        """The loss of predicted ``deltas`` (N, 4) on ``references`` (N, 4), whose truth are ``targets`` (N, 4)."""
        if self._kind == "smooth_l1":
            wanted = self.coder.encode_single(targets, references)
            loss: Tensor = smooth_l1_loss(deltas, wanted, beta=self._beta, reduction="sum")
        else:
            loss = _OVERLAP_LOSSES[self._kind](self.decode(deltas, references), targets, reduction="sum")
        return loss


def match(truth: Tensor, boxes: Tensor, thresholds: tuple[float, float], allow_low_quality: bool) -> Tensor:
    """The index of the true box that each box belongs to, int64 (N,); -1 for background, -2 for neither.

    Args:
        truth: (M, 4) XYXY.
        boxes: (N, 4) XYXY.
        thresholds: overlaps (IoU): below the first a box is background, from the second on it belongs to the true box
            that it overlaps most.
        allow_low_quality: also give each true box those that overlap it most of all.
    """
    if not len(truth):
        return torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device)
    found: Tensor = Matcher(thresholds[1], thresholds[0], allow_low_quality)(box_iou(truth, boxes))
    return found


def sample(matches: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Indices of the boxes to learn from: objects, at most that fraction of ``count``, and background for the rest.

    Args:
        matches: of one image, as `match` gives them.
        count: boxes in all.
        positive_fraction: the largest share of objects among them.
    """
    labels = torch.where(matches >= 0, 1, torch.where(matches == -1, 0, -1))
    positive, negative = BalancedPositiveNegativeSampler(count, positive_fraction)([labels])
    return positive[0].nonzero().flatten(), negative[0].nonzero().flatten()
