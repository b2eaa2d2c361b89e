"""From a class and a mask per query to instances, a semantic map or a panoptic one.

The rules are those of Mask2Former (Cheng et al. 2022, arXiv:2112.01527) and MaskFormer (arXiv:2107.06278). Masks reach
the size of the original image a few at a time.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import Tensor

from drivetrain.structures import BitMasks, Instances, bitmask_to_rle

from .frames import Frame

__all__ = ["MaskFormat", "instance_segments", "panoptic_segments", "semantic_scores"]

MaskFormat = Literal["bitmask", "rle"]
"""What ``pred_masks`` is: a bool tensor, or a list of COCO's compressed run lengths."""
_AT_ONCE = 8


def instance_segments(
    class_logits: Tensor,
    mask_logits: Tensor,
    frame: Frame,
    *,
    most: int,
    threshold: float,
    mask_format: MaskFormat = "bitmask",
) -> Instances:
    """Instances of one image with ``pred_boxes``, ``scores``, ``pred_classes`` and ``pred_masks``.

    Each class of each query is a candidate, scored by its probability times the mean probability within its mask.

    Args:
        class_logits: (Q, K + 1), the last column no object.
        mask_logits: (Q, h, w), over the padded tensor.
        frame: the image's sizes.
        most: so many candidates with the highest class probability are looked at.
        threshold: only scores above it are kept.
        mask_format: what ``pred_masks`` is: ``"bitmask"``, bool (N, H, W), or ``"rle"``, a list of N run lengths.
    """
    probabilities = class_logits.softmax(dim=1)[:, :-1]
    scores, places = probabilities.flatten().topk(min(most, probabilities.numel()))
    likely = scores > threshold  # the mean within the mask only lowers it
    scores, places = scores[likely], places[likely]
    queries, classes = places // probabilities.shape[1], places % probabilities.shape[1]
    parts = [_instances(class_logits.new_zeros((0, *frame.original)), scores[:0], classes[:0], mask_format)]
    for first in range(0, len(places), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        part = _instances(frame.restore(mask_logits[queries[rows]]), scores[rows], classes[rows], mask_format)
        parts.append(part[(part.scores > threshold) & part.pred_boxes.nonempty()])
    found = Instances.cat(parts)
    return found[found.scores.argsort(descending=True)]


def _instances(logits: Tensor, scores: Tensor, classes: Tensor, mask_format: MaskFormat) -> Instances:
    """Instances with these masks, logits (N, H, W), whose class probabilities are ``scores``."""
    masks = logits > 0
    quality = (logits.sigmoid() * masks).sum((1, 2)) / (masks.sum((1, 2)) + 1e-6)
    return Instances(
        (logits.shape[1], logits.shape[2]),
        pred_boxes=BitMasks(masks).get_bounding_boxes(),
        scores=scores * quality,
        pred_classes=classes,
        pred_masks=masks if mask_format == "bitmask" else [bitmask_to_rle(mask) for mask in masks.cpu().numpy()],
    )


def semantic_scores(class_logits: Tensor, mask_logits: Tensor, frame: Frame) -> Tensor:
    """The score of each class at each pixel of the original image, (K, H, W): masks weighted by class probability.

    Args:
        class_logits: (Q, K + 1), the last column no object.
        mask_logits: (Q, h, w), over the padded tensor.
        frame: the image's sizes.
    """
    probabilities = class_logits.softmax(dim=1)[:, :-1]
    scores = mask_logits.new_zeros((probabilities.shape[1], *frame.image))
    for first in range(0, len(mask_logits), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        scores += torch.einsum("qk,qhw->khw", probabilities[rows], frame.crop(mask_logits[rows]).sigmoid())
    return Frame(frame.image, frame.image, frame.original).restore(scores)


def panoptic_segments(
    class_logits: Tensor,
    mask_logits: Tensor,
    frame: Frame,
    *,
    stuff: Collection[int],
    min_score: float,
    min_visible: float,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """One segment, or none, for each pixel of the original image.

    Each pixel goes to the query with the highest product of class score and mask probability. A segment that shows
    less than ``min_visible`` of its query's mask is dropped; those of one stuff class become one.

    Args:
        class_logits: (Q, K + 1), the last column no object.
        mask_logits: (Q, h, w), over the padded tensor.
        frame: the image's sizes.
        stuff: classes whose segments are not told apart.
        min_score: queries scored no higher are left out.
        min_visible: between 0 and 1.

    Returns:
        The map of segment ids, int32 (H, W), 0 for none; per segment ``id`` (from 1), ``category_id`` (the class),
        ``isthing``, and ``score`` (of stuff, the highest).
    """
    scores, classes = class_logits.softmax(dim=1).max(dim=1)
    queries = ((scores > min_score) & (classes < class_logits.shape[1] - 1)).nonzero().flatten()
    winner, inside, visible = _winners(scores[queries], mask_logits[queries], frame)
    panoptic = torch.zeros(frame.original, dtype=torch.int32, device=mask_logits.device)
    segments: list[dict[str, Any]] = []
    stuff_ids: dict[int, int] = {}
    rows = zip(visible.tolist(), classes[queries].tolist(), scores[queries].tolist(), strict=True)
    for i, (share, category, score) in enumerate(rows):
        mask = (winner == i) & inside
        if share < min_visible or not mask.any():
            continue
        identity = stuff_ids.get(category, len(segments) + 1)
        panoptic[mask] = identity
        if identity <= len(segments):
            segments[identity - 1]["score"] = max(segments[identity - 1]["score"], score)
            continue
        if category in stuff:
            stuff_ids[category] = identity
        segments.append({"id": identity, "category_id": category, "isthing": category not in stuff, "score": score})
    return panoptic, segments


def _winners(scores: Tensor, mask_logits: Tensor, frame: Frame) -> tuple[Tensor, Tensor, Tensor]:
    """Which query wins each pixel, whether the pixel lies in that query's mask, and the visible share of each mask.

    Args:
        scores: (Q,).
        mask_logits: (Q, h, w).
        frame: the image's sizes.

    Returns:
        int64 (H, W), -1 for none; bool (H, W); float (Q,), the pixels won over those in the mask, 0 without any.
    """
    best = torch.full(frame.original, -1.0, device=scores.device)
    winner = torch.full(frame.original, -1, device=scores.device)
    inside = torch.zeros(frame.original, dtype=torch.bool, device=scores.device)
    area = torch.zeros_like(scores)
    for i in range(len(scores)):
        probability = frame.restore(mask_logits[i : i + 1])[0].sigmoid()
        within = probability >= 0.5
        area[i] = within.sum()
        better = probability * scores[i] > best
        best = torch.where(better, probability * scores[i], best)
        inside = torch.where(better, within, inside)
        winner[better] = i
    won = torch.bincount(winner.flatten() + 1, minlength=len(scores) + 1)[1:]
    return winner, inside, torch.where(area > 0, won / area.clamp(min=1), 0.0)
