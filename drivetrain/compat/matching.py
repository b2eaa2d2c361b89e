"""Which boxes belong together, and how they differ: arguments of detectron2's models, and parts of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.regression import BoxLoss, sample

__all__ = ["Box2BoxTransform", "Matcher", "subsample_labels"]

_LARGEST_GROWTH = math.log(1000 / 16)  # of a side, as a logarithm


class Matcher:
    """The overlaps (IoU) from which boxes are objects, or background, or neither; called, it matches boxes.

    Attributes:
        thresholds: falling between the labels.
        labels: 1 for objects, 0 for background, -1 for neither.
        allow_low_quality_matches: each true box also gets those that overlap it most of all.
    """

    def __init__(
        self, thresholds: Sequence[float], labels: Sequence[int], allow_low_quality_matches: bool = False
    ) -> None:
        """Set them.

        Raises:
            ModelError: there is not one threshold between each two labels.
        """
        if len(thresholds) != len(labels) - 1:
            raise ModelError(
                f"there must be a threshold between each two labels {list(labels)}, not {list(thresholds)}"
            )
        self.thresholds, self.labels = list(thresholds), list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def limits(self, labels: Sequence[int], *, low_quality: bool) -> tuple[float, float]:
        """The overlaps below which is background and from which on objects are.

        Raises:
            ModelError: the labels, or whether low quality is allowed, are not those that the model here has.
        """
        if self.labels != list(labels) or self.allow_low_quality_matches != low_quality:
            raise ModelError(
                f"this part is matched with labels {list(labels)} and allow_low_quality_matches {low_quality} here, "
                f"but is given labels {self.labels} and {self.allow_low_quality_matches}"
            )
        return float(self.thresholds[0]), float(self.thresholds[-1])

    def __call__(self, match_quality_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Match N boxes with M true ones, whose overlaps are given (M, N).

        Returns:
            Of each box the true one that it overlaps most (int64, 0 where there are none), and its label (int8).
        """
        if not len(match_quality_matrix):
            none = match_quality_matrix.new_zeros(match_quality_matrix.shape[1], dtype=torch.int64)
            return none, torch.full_like(none, self.labels[0], dtype=torch.int8)
        overlaps, matches = match_quality_matrix.max(dim=0)
        labels = torch.ones_like(matches, dtype=torch.int8)
        for label, (low, high) in zip(self.labels, pairwise((-math.inf, *self.thresholds, math.inf)), strict=True):
            labels[(overlaps >= low) & (overlaps < high)] = label
        if self.allow_low_quality_matches:
            best = match_quality_matrix.max(dim=1, keepdim=True).values
            labels[(match_quality_matrix == best).any(dim=0)] = 1
        return matches, labels


def subsample_labels(
    labels: Tensor, num_samples: int, positive_fraction: float, bg_label: int
) -> tuple[Tensor, Tensor]:
    """Indices of the boxes to learn from, drawn by chance: objects, at most that fraction, and background for the rest.

    Args:
        labels: (N,), of a class, of the background, or -1 for neither.
        num_samples: boxes in all, at most.
        positive_fraction: the largest share of objects among them.
        bg_label: the label of the background.
    """
    matches = torch.where(labels == bg_label, -1, torch.where(labels == -1, -2, 0))
    return sample(matches, num_samples, positive_fraction)


class Box2BoxTransform:
    """Boxes as differences from others: of the centres in widths and heights, and logarithms of widths and heights.

    Attributes:
        weights: factors on dx, dy, dw, dh.
    """

    def __init__(self, weights: Sequence[float], scale_clamp: float = _LARGEST_GROWTH) -> None:
        """Set the weights.

        Raises:
            ModelError: ``scale_clamp``, the most that a box may grow, is another than the one there is.
        """
        if scale_clamp != _LARGEST_GROWTH:
            raise ModelError(f"scale_clamp is {scale_clamp}, but boxes grow by at most log(1000 / 16) here")
        self.weights = tuple(float(weight) for weight in weights)

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """The differences (N, 4) by which boxes (N, 4) XYXY become the target boxes (N, 4)."""
        deltas: Tensor = BoxLoss(self.weights).coder.encode_single(target_boxes, src_boxes)
        return deltas

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """The boxes (N, 4 * K) that differences (N, 4 * K) make of ``boxes`` (N, 4)."""
        return BoxLoss(self.weights).decode(deltas, boxes)
