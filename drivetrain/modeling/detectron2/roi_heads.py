"""The second stage: which proposals to learn from, and the branches for boxes, masks and keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from drivetrain.modeling.contract import Losses
from drivetrain.structures import BitMasks, Instances, PolygonMasks

from .box_head import BoxPredictor
from .keypoint_head import KeypointHead, keypoints_of_heatmaps
from .mask_head import MaskHead
from .pooler import ROIPooler
from .regression import match, sample

__all__ = ["Chosen", "ROIHeads", "SamplingOptions"]


@dataclass(frozen=True)
class SamplingOptions:
    """Which proposals the second stage learns from; the names are those of ``MODEL.ROI_HEADS``."""

    iou_threshold: float = 0.5
    batch_size_per_image: int = 512
    positive_fraction: float = 0.25
    append_gt: bool = True


@dataclass(frozen=True)
class Chosen:
    """The proposals of one image to learn from.

    Attributes:
        boxes: (N, 4) XYXY.
        classes: (N,) int64; the number of classes stands for background.
        matched: (N,) the index of the true object of each; 0 for background.
        truth: the true objects.
    """

    boxes: Tensor
    classes: Tensor
    matched: Tensor
    truth: Instances

    def objects(self, num_classes: int) -> Chosen:
        """Those that are no background."""
        found = self.classes < num_classes
        return Chosen(self.boxes[found], self.classes[found], self.matched[found], self.truth)


class ROIHeads(nn.Module):
    """Classifies proposals, moves them to their objects, and adds masks and keypoints where there are branches.

    Parameters stand in the order, and under the names, in which detectron2's ``StandardROIHeads`` and
    ``Res5ROIHeads`` have them.

    Attributes:
        in_features: names of the feature maps that it looks at, finest first.
        num_classes: without background.
        has_masks, has_keypoints: which branches there are.
    """

    def __init__(
        self,
        in_features: Sequence[str],
        sampling: SamplingOptions,
        pooler: ROIPooler,
        head: nn.Module,
        predictor: BoxPredictor,
        *,
        head_name: str = "box_head",
        mask: tuple[ROIPooler | None, MaskHead] | None = None,
        keypoint: tuple[ROIPooler, KeypointHead] | None = None,
    ) -> None:
        """Assemble the parts.

        Args:
            in_features: names of the feature maps that it looks at, finest first.
            sampling: which proposals to learn from.
            pooler: cuts features for the box head.
            head: features of a box to those that the predictor takes.
            predictor: scores and boxes.
            head_name: the name of the head's parameters: "box_head", or "res5" for the last stage of a ResNet.
            mask: a pooler and the mask head; without a pooler the mask head works on what ``head`` returns.
            keypoint: a pooler and the keypoint head.
        """
        super().__init__()
        self.in_features = tuple(in_features)
        self._sampling = sampling
        self._head_name = head_name
        self.box_pooler = pooler
        self.add_module(head_name, head)
        self.box_predictor = predictor
        if mask is not None:
            self.mask_pooler, self.mask_head = mask
        if keypoint is not None:
            self.keypoint_pooler, self.keypoint_head = keypoint
        self.has_masks, self.has_keypoints = mask is not None, keypoint is not None
        self.num_classes = predictor.options.num_classes

    # Training

    @torch.no_grad()
    def choose(self, proposals: Sequence[Tensor], truth: Sequence[Instances]) -> list[Chosen]:
        """The proposals (N, 4) of each image to learn from, with what they are."""
        options, chosen = self._sampling, []
        for boxes, objects in zip(proposals, truth, strict=True):
            true_boxes, true_classes = objects.gt_boxes.tensor, objects.gt_classes
            if options.append_gt:
                boxes = torch.cat((boxes, true_boxes))
            thresholds = (options.iou_threshold, options.iou_threshold)
            matches = match(true_boxes, boxes, thresholds, allow_low_quality=False)
            positive, negative = sample(matches, options.batch_size_per_image, options.positive_fraction)
            index = torch.cat((positive, negative))
            matched = matches[index].clamp(min=0)
            classes = torch.full_like(index, self.num_classes)
            classes[: len(positive)] = true_classes[matched[: len(positive)]] if len(positive) else 0
            chosen.append(Chosen(boxes[index], classes, matched, objects))
        return chosen

    def losses(self, features: Mapping[str, Tensor], proposals: Sequence[Tensor], truth: Sequence[Instances]) -> Losses:
        """The losses of all branches.

        Args:
            features: (images, C, H, W) by name.
            proposals: (N, 4) of each image.
            truth: of each image, with ``gt_boxes``, ``gt_classes`` and what the branches need.
        """
        chosen = self.choose(proposals, truth)
        boxes = [c.boxes for c in chosen]
        maps = self._maps(features)
        pooled = self._box_features(maps, boxes)
        scores, deltas = self.box_predictor(self._flat(pooled))
        classes = torch.cat([c.classes for c in chosen])
        targets = torch.cat([_targets(c) for c in chosen])
        losses = self.box_predictor.losses(scores, deltas, torch.cat(boxes), classes, targets)
        objects = [c.objects(self.num_classes) for c in chosen]
        if self.has_masks:
            losses["loss_mask"] = self._mask_loss(maps, pooled, classes, objects)
        if self.has_keypoints:
            losses["loss_keypoint"] = self._keypoint_loss(maps, objects)
        return losses

    def _mask_loss(
        self, features: Sequence[Tensor], pooled: Tensor, classes: Tensor, objects: Sequence[Chosen]
    ) -> Tensor:
        boxes = [c.boxes for c in objects]
        if self.mask_pooler is None:
            cut = pooled[classes < self.num_classes]
        else:
            cut = self.mask_pooler(features, boxes)
        logits = self.mask_head(cut)
        masks: list[BitMasks | PolygonMasks] = [c.truth.gt_masks[c.matched.cpu()] for c in objects]
        return self.mask_head.loss(logits, torch.cat([c.classes for c in objects]), boxes, masks)

    def _keypoint_loss(self, features: Sequence[Tensor], objects: Sequence[Chosen]) -> Tensor:
        kept = [_with_visible_keypoints(c) for c in objects]
        logits = self.keypoint_head(self.keypoint_pooler(features, [boxes for boxes, _ in kept]))
        boxes, keypoints = (torch.cat(parts) for parts in zip(*kept, strict=True))
        loss: Tensor = self.keypoint_head.loss(logits, boxes, keypoints, len(objects))
        return loss

    # Prediction

    def boxes(
        self, features: Mapping[str, Tensor], proposals: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """Of each image, whose size is given as (height, width) without padding: ``pred_boxes`` (N, 4), ``scores`` and
        ``pred_classes``, best first; boxes as plain tensors."""
        pooled = self._box_features(self._maps(features), proposals)
        scores, deltas = self.box_predictor(self._flat(pooled))
        counts = [len(boxes) for boxes in proposals]
        found = []
        per_image = zip(torch.split(scores, counts), torch.split(deltas, counts), proposals, sizes, strict=True)
        for values, rows, places, size in per_image:
            kept, confidence, kinds = self.box_predictor.detections(values, rows, places, size)
            found.append(Instances(size, pred_boxes=kept, scores=confidence, pred_classes=kinds))
        return found

    def add_branches(self, features: Mapping[str, Tensor], found: Sequence[Instances]) -> None:
        """Add to detections, as :meth:`boxes` gives them, what the branches there are predict: ``pred_masks``
        (N, S, S) from 0 to 1 within the boxes, and ``pred_keypoints`` (N, K, 3)."""
        maps, boxes = self._maps(features), [f.pred_boxes for f in found]
        counts = [len(b) for b in boxes]
        if self.has_masks:
            cut = self._box_features(maps, boxes) if self.mask_pooler is None else self.mask_pooler(maps, boxes)
            masks = self.mask_head.probabilities(self.mask_head(cut), torch.cat([f.pred_classes for f in found]))
            for instances, part in zip(found, torch.split(masks, counts), strict=True):
                instances.pred_masks = part
        if self.has_keypoints:
            heat = self.keypoint_head(self.keypoint_pooler(maps, boxes))
            keypoints = keypoints_of_heatmaps(heat, torch.cat(boxes))[..., [0, 1, 3]]
            for instances, part in zip(found, torch.split(keypoints, counts), strict=True):
                instances.pred_keypoints = part

    # Features

    def _maps(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        return [features[name] for name in self.in_features]

    def _box_features(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        out: Tensor = self.get_submodule(self._head_name)(self.box_pooler(features, boxes))
        return out

    @staticmethod
    def _flat(pooled: Tensor) -> Tensor:
        """What the predictor takes: the mean over places where the head left some."""
        return pooled.mean(dim=(2, 3)) if pooled.ndim == 4 else pooled


def _targets(chosen: Chosen) -> Tensor:
    """The true box of each chosen one (N, 4); the box itself where there is no object in the image."""
    truth = chosen.truth.gt_boxes.tensor
    return truth[chosen.matched] if len(truth) else chosen.boxes


def _with_visible_keypoints(chosen: Chosen) -> tuple[Tensor, Tensor]:
    """Boxes and keypoints (N, K, 3) of the objects that have a visible keypoint within their box."""
    keypoints = chosen.truth.gt_keypoints.tensor[chosen.matched]
    x, y, visible = keypoints.unbind(dim=-1)
    left, top, right, bottom = chosen.boxes[:, None].unbind(dim=-1)
    seen = (visible >= 1) & (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    kept = seen.any(dim=1)
    return chosen.boxes[kept], keypoints[kept]
