"""From a batch to targets, and from detections to outputs: what the models of this package share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling.contract import Batch, Losses, Outputs
from drivetrain.modeling.preprocess import Preprocess
from drivetrain.modeling.targets import objects
from drivetrain.structures import Boxes, ImageList, Instances

from .mask_head import paste_masks

__all__ = ["Detector", "in_output_image", "preprocess_for"]


class Detector(nn.Module):
    """Keeps the model contract; subclasses give :meth:`losses` and :meth:`detections`.

    Attributes:
        num_classes: the number of classes.
        preprocess: normalises and pads.
        section: of ``MODEL``, where a config has the number of classes.
    """

    num_classes: int
    preprocess: Preprocess
    section: ClassVar[str]

    def losses(self, images: ImageList, truth: Sequence[Instances]) -> Losses:
        """The losses of prepared images; ``truth`` lies on the model's device."""
        raise NotImplementedError

    def detections(self, images: ImageList) -> list[Instances]:
        """Of each prepared image ``pred_boxes`` (a tensor), ``scores``, ``pred_classes`` in its own pixels."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Losses | Outputs:
        """Losses in training mode, outputs in evaluation mode; see :mod:`drivetrain.modeling.contract`.

        Raises:
            ModelError: the batch is empty or an entry lacks what the contract asks for.
        """
        if not batch:
            raise ModelError("the batch is empty: a model is called with a list of at least one dict")
        images = self.preprocess(batch)
        if self.training:
            truth = [objects(entry, self.num_classes, key=f"MODEL.{self.section}.NUM_CLASSES") for entry in batch]
            return self.losses(images, [instances.to(self.preprocess.device) for instances in truth])
        return [
            {"instances": in_output_image(found, int(entry.get("height", size[0])), int(entry.get("width", size[1])))}
            for entry, size, found in zip(batch, images.image_sizes, self.detections(images), strict=True)
        ]


def preprocess_for(backbone: nn.Module, mean: Sequence[float], std: Sequence[float]) -> Preprocess:
    """The normalisation, with the padding that a backbone asks for by ``size_divisibility`` (none without)."""
    return Preprocess(mean, std, max(int(getattr(backbone, "size_divisibility", 0)), 1))


def in_output_image(found: Instances, height: int, width: int) -> Instances:
    """Detections in a resized image as those in the original one, (height, width) pixels; empty boxes drop out."""
    scale_x, scale_y = width / found.image_size[1], height / found.image_size[0]
    boxes = Boxes(found.pred_boxes)
    boxes.scale(scale_x, scale_y)
    boxes.clip((height, width))
    out = Instances((height, width), pred_boxes=boxes, scores=found.scores, pred_classes=found.pred_classes)
    if found.has("pred_keypoints"):
        keypoints = found.pred_keypoints
        out.pred_keypoints = keypoints * keypoints.new_tensor((scale_x, scale_y, 1.0))
    if found.has("pred_masks"):
        out.pred_masks = found.pred_masks
    out = out[boxes.nonempty()]
    if found.has("pred_masks"):
        out.pred_masks = paste_masks(out.pred_masks, out.pred_boxes.tensor, (height, width))
    return out
