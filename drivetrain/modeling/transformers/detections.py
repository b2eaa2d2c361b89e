"""Boxes between pixels and the library's fractions, and the choice of detections from its queries."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from drivetrain.structures import Boxes, Instances

__all__ = ["fractions_of", "pick_detections", "pixels_of"]


def fractions_of(boxes: Tensor, frame: tuple[int, int]) -> Tensor:
    """XYXY boxes (N, 4) in pixels as centre x, centre y, width, height in fractions of ``frame`` (height, width)."""
    height, width = frame
    corners = boxes / boxes.new_tensor((width, height, width, height))
    low, high = corners[:, :2], corners[:, 2:]
    return torch.cat(((low + high) / 2, high - low), dim=1)


def pixels_of(boxes: Tensor, frame: tuple[int, int]) -> Tensor:
    """The inverse of :func:`fractions_of`."""
    height, width = frame
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return torch.cat((centre - half, centre + half), dim=1) * boxes.new_tensor((width, height, width, height))


def pick_detections(
    logits: Tensor,
    boxes: Tensor,
    original: tuple[int, int],
    *,
    scores: Literal["sigmoid", "softmax"],
    most: int,
    threshold: float,
) -> Instances:
    """The best detections among the queries of one image, as the library's ``post_process_object_detection``.

    Args:
        logits: (Q, K), with ``softmax`` (Q, K + 1) whose last column is no object.
        boxes: (Q, 4), XYXY in pixels of the original image.
        original: (height, width) of the original image, to which boxes are clipped.
        scores: see :class:`~drivetrain.modeling.transformers.families.Family`.
        most: at most so many are kept.
        threshold: only scores above it are kept.
    """
    if scores == "sigmoid":
        best, places = logits.sigmoid().flatten().topk(min(most, logits.numel()))
        queries, classes = places // logits.shape[1], places % logits.shape[1]
    else:
        of_query, class_of_query = logits.softmax(dim=1)[:, :-1].max(dim=1)
        best, queries = of_query.topk(min(most, len(of_query)))
        classes = class_of_query[queries]
    found = Boxes(boxes[queries])
    found.clip(original)
    instances = Instances(original, pred_boxes=found, scores=best, pred_classes=classes)
    return instances[(best > threshold) & found.nonempty()]
