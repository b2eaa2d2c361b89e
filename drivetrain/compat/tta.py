"""Test-time augmentation: predictions on several sizes of an image, and on their mirror images, joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from drivetrain.data.transforms import FlipTransform, ResizeShortestEdge
from drivetrain.errors import ModelError
from drivetrain.modeling.contract import Batch, Outputs
from drivetrain.structures import Boxes, Instances

__all__ = ["DatasetMapperTTA", "GeneralizedRCNNWithTTA"]


class DatasetMapperTTA:
    """Makes the variants of one image that ``cfg.TEST.AUG`` describes.

    Attributes:
        min_sizes: lengths of the shorter side, pixels.
        max_size: the longer side is at most this.
        flip: whether each size comes mirrored too.
    """

    def __init__(self, cfg: Any) -> None:
        """Read ``TEST.AUG`` of a config."""
        section = cfg.TEST.AUG
        self.min_sizes = tuple(section.MIN_SIZES)
        self.max_size, self.flip = int(section.MAX_SIZE), bool(section.FLIP)

    def __call__(self, dataset_dict: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A batch of the variants of ``image``, uint8 (C, H, W); ``flipped`` tells which are mirrored."""
        image: Tensor = dataset_dict["image"].cpu()
        variants: list[dict[str, Any]] = []
        for size in self.min_sizes:
            resize = ResizeShortestEdge(size, self.max_size).draw(np.random.default_rng(0), *image.shape[-2:])
            resized = resize.apply_image(image).contiguous()
            variants.append({**dataset_dict, "image": resized, "flipped": False})
            if self.flip:
                mirrored = FlipTransform(resize.output_size).apply_image(resized).contiguous()
                variants.append({**dataset_dict, "image": mirrored, "flipped": True})
        return variants


class GeneralizedRCNNWithTTA(nn.Module):
    """A detector that predicts on variants of each image and joins the boxes by non-maximum suppression.

    It keeps the model contract in evaluation. Masks and keypoints are not joined.
    """

    def __init__(
        self,
        cfg: Any,
        model: nn.Module,
        tta_mapper: Callable[[Mapping[str, Any]], list[dict[str, Any]]] | None = None,
        batch_size: int = 3,
    ) -> None:
        """Wrap a detector.

        Args:
            cfg: a config with ``TEST.AUG``, ``TEST.DETECTIONS_PER_IMAGE`` and ``MODEL.ROI_HEADS.NMS_THRESH_TEST``.
            model: the detector.
            tta_mapper: makes the variants of an entry; by default :class:`DatasetMapperTTA`.
            batch_size: variants that run together.

        Raises:
            ModelError: the model predicts masks or keypoints.
        """
        super().__init__()
        if cfg.MODEL.MASK_ON or cfg.MODEL.KEYPOINT_ON:
            raise ModelError(
                "test-time augmentation joins boxes alone: set TEST.AUG.ENABLED False for a model with "
                "MODEL.MASK_ON or MODEL.KEYPOINT_ON"
            )
        self.cfg = cfg.clone()
        self.model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        self.tta_mapper = DatasetMapperTTA(cfg) if tta_mapper is None else tta_mapper
        self.batch_size = batch_size

    @torch.no_grad()
    def forward(self, batched_inputs: Batch) -> Outputs:
        """``instances`` of each image, in the pixels of the original one."""
        return [{"instances": self._joined(entry)} for entry in batched_inputs]

    def _joined(self, entry: dict[str, Any]) -> Instances:
        rows, columns = entry["image"].shape[-2:]
        height, width = int(entry.get("height", rows)), int(entry.get("width", columns))
        variants = self.tta_mapper({**entry, "height": height, "width": width})
        found = []
        for start in range(0, len(variants), self.batch_size):
            part = variants[start : start + self.batch_size]
            outputs = self.model(part)
            found += [_unflipped(o["instances"], v.get("flipped", False)) for v, o in zip(part, outputs, strict=True)]
        merged = Instances.cat(found)
        boxes, scores = merged.pred_boxes.tensor, merged.scores
        keep = batched_nms(boxes, scores, merged.pred_classes, self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST)
        return merged[keep[: self.cfg.TEST.DETECTIONS_PER_IMAGE]]


def _unflipped(found: Instances, flipped: bool) -> Instances:
    """Boxes, scores and classes, in the image that was not mirrored."""
    boxes = found.pred_boxes.tensor
    if flipped:
        width = found.image_size[1]
        boxes = torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), dim=1)
    return Instances(found.image_size, pred_boxes=Boxes(boxes), scores=found.scores, pred_classes=found.pred_classes)
