"""Which boxes belong together, and how they differ, as arguments of detectron2's models."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from drivetrain.errors import ModelError
from drivetrain.modeling.detectron2.regression import BoxLoss

__all__ = ["Box2BoxTransform", "Matcher"]


class Matcher:
    """The overlaps (IoU) from which boxes are objects, or background, or neither.

    Attributes:
        thresholds: falling between the labels.
        labels: 1 for objects, 0 for background, -1 for neither.
        allow_low_quality_matches: each true box also gets those that overlap it most of all.
    """

    def __init__(
        self, thresholds: Sequence[float], labels: Sequence[int], allow_low_quality_matches: bool = False
    ) -> None:
        """Set them."""
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
        if len(self.thresholds) != len(self.labels) - 1:
            raise ModelError(f"there must be a threshold between each two labels {self.labels}, not {self.thresholds}")
        return float(self.thresholds[0]), float(self.thresholds[-1])


class Box2BoxTransform:
    """Boxes as differences from others: of the centres in widths and heights, and logarithms of widths and heights.

    Attributes:
        weights: factors on dx, dy, dw, dh.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        """Set the weights."""
        self.weights = tuple(float(weight) for weight in weights)

    def get_deltas(self, src_boxes: Tensor, target_boxes: Tensor) -> Tensor:
        """The differences (N, 4) by which boxes (N, 4) XYXY become the target boxes (N, 4)."""
        deltas: Tensor = BoxLoss(self.weights).coder.encode_single(target_boxes, src_boxes)
        return deltas

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """The boxes (N, 4 * K) that differences (N, 4 * K) make of ``boxes`` (N, 4)."""
        return BoxLoss(self.weights).decode(deltas, boxes)
