"""RetinaNet (Lin et al., ICCV 2017) with detectron2's parameter names, numbers and losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from drivetrain.modeling.contract import Losses
from drivetrain.modeling.preprocess import Preprocess
from drivetrain.structures import ImageList, Instances

from .anchors import AnchorGenerator, GivenAnchors
from .dense import DenseDetector, DenseHead, DenseOptions, detections_of_image, focal_loss
from .regression import BoxLoss, match

__all__ = ["RetinaNet", "RetinaNetOptions"]


@dataclass(frozen=True)
class RetinaNetOptions(DenseOptions):
    """The numbers of ``MODEL.RETINANET``."""

    loss: BoxLoss = field(default_factory=lambda: BoxLoss((1.0, 1.0, 1.0, 1.0), beta=0.1))
    iou_thresholds: tuple[float, float] = (0.4, 0.5)


class RetinaNet(DenseDetector):
    """A one-stage detector with focal loss."""

    section = "RETINANET"

    def __init__(
        self,
        backbone: nn.Module,
        head: DenseHead,
        anchors: AnchorGenerator | GivenAnchors,
        preprocess: Preprocess,
        features: Sequence[str],
        options: RetinaNetOptions,
    ) -> None:
        """Assemble the parts; the features are names of the backbone's outputs, finest first."""
        super().__init__(backbone, head, anchors, preprocess, features, options, loss_normalizer=100.0)
        self._options = options

    def losses(self, images: ImageList, truth: Sequence[Instances]) -> Losses:
        """``loss_cls`` and ``loss_box_reg``."""
        options = self._options
        maps = self.maps(images)
        anchors = torch.cat(self.anchor_generator(maps))
        logits, deltas = (torch.cat(parts, dim=1) for parts in self.head(maps))
        classes, boxes, count = logits.sum() * 0, deltas.sum() * 0, 0
        for row, objects in enumerate(truth):
            true_boxes = objects.gt_boxes.tensor
            matches = match(true_boxes, anchors, options.iou_thresholds, allow_low_quality=True)
            found, used = (matches >= 0).nonzero().flatten(), (matches >= -1).nonzero().flatten()
            kinds = torch.full_like(matches, options.num_classes)
            kinds[found] = objects.gt_classes[matches[found]]
            classes = classes + focal_loss(logits[row, used], kinds[used], options)
            if len(found):
                boxes = boxes + options.loss(deltas[row, found], anchors[found], true_boxes[matches[found]])
            count += len(found)
        normalizer = self.update_normalizer(count)
        return {"loss_cls": classes / normalizer, "loss_box_reg": boxes / normalizer}

    def detections(self, images: ImageList) -> list[Instances]:
        """Of each image ``pred_boxes`` (N, 4), ``scores`` and ``pred_classes``, best first."""
        maps = self.maps(images)
        anchors = self.anchor_generator(maps)
        logits, deltas = self.head(maps)
        return [
            detections_of_image(
                [level[row].sigmoid() for level in logits],
                [level[row] for level in deltas],
                anchors,
                self._options.loss.decode,
                size,
                self._options,
            )
            for row, size in enumerate(images.image_sizes)
        ]
