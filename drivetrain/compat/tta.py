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
from drivetrain.modeling.detectron2 import GeneralizedRCNN
from drivetrain.modeling.detectron2.adapter import in_output_image
from drivetrain.modeling.detectron2.mask_head import paste_masks
from drivetrain.structures import Boxes, ImageList, Instances

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
    """A detector that predicts on variants of each image: boxes are joined by non-maximum suppression, masks averaged.

    It keeps the model contract in evaluation. Masks are predicted once the boxes are joined: in every variant for all
    of them, and the means of their probabilities, back in one orientation, are laid into the image. Keypoints are not
    joined, neither here nor in detectron2.
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
            cfg: a config with ``TEST.AUG``, ``TEST.DETECTIONS_PER_IMAGE``, ``MODEL.ROI_HEADS.NMS_THRESH_TEST`` and
                ``MODEL.MASK_ON``.
            model: the detector. With masks it is a :class:`drivetrain.modeling.detectron2.GeneralizedRCNN`.
            tta_mapper: makes the variants of an entry; by default :class:`DatasetMapperTTA`.
            batch_size: variants that run together.

        Raises:
            ModelError: the model predicts keypoints, or masks without being such a one.
        """
        super().__init__()
        if cfg.MODEL.KEYPOINT_ON:
            raise ModelError(
                "test-time augmentation does not join keypoints: set TEST.AUG.ENABLED False for a model with "
                "MODEL.KEYPOINT_ON"
            )
        self.cfg = cfg.clone()
        self.model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
        if cfg.MODEL.MASK_ON and not isinstance(self.model, GeneralizedRCNN):
            raise ModelError(
                "test-time augmentation with MODEL.MASK_ON needs drivetrain.modeling.detectron2.GeneralizedRCNN, whose "
                f"masks can be asked for boxes that are given, and not a {type(self.model).__name__}"
            )
        self.tta_mapper = DatasetMapperTTA(cfg) if tta_mapper is None else tta_mapper
        self.batch_size = batch_size

    @torch.no_grad()
    def forward(self, batched_inputs: Batch) -> Outputs:
        """``instances`` of each image, in the pixels of the original one."""
        return [{"instances": self._joined(entry)} for entry in batched_inputs]

    def _joined(self, entry: dict[str, Any]) -> Instances:
        rows, columns = entry["image"].shape[-2:]
        size = int(entry.get("height", rows)), int(entry.get("width", columns))
        variants = self.tta_mapper({**entry, "height": size[0], "width": size[1]})
        parts = [variants[start : start + self.batch_size] for start in range(0, len(variants), self.batch_size)]
        merged = self._without_duplicates(Instances.cat([found for part in parts for found in self._boxes(part, size)]))
        if self.cfg.MODEL.MASK_ON:
            boxes, classes = merged.pred_boxes.tensor, merged.pred_classes
            views = [masks for part in parts for masks in self._masks(part, boxes, classes, size)]
            merged.pred_masks = paste_masks(torch.stack(views).mean(dim=0), boxes, size)
        return merged

    def _without_duplicates(self, found: Instances) -> Instances:
        """The best detections, without those that overlap a better one of their class."""
        most = self.cfg.TEST.DETECTIONS_PER_IMAGE
        keep = batched_nms(
            found.pred_boxes.tensor, found.scores, found.pred_classes, self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST
        )
        return found[keep[:most] if most >= 0 else keep]

    def _boxes(self, part: list[dict[str, Any]], size: tuple[int, int]) -> list[Instances]:
        """Boxes, scores and classes in each of these variants, in the pixels of the original image of that size."""
        if self.cfg.MODEL.MASK_ON:  # without the masks, which would be thrown away
            found = self.model.boxes(self._prepared(part))  # type: ignore[operator]
            outputs = [in_output_image(boxes, *size) for boxes in found]
        else:
            outputs = [output["instances"] for output in self.model(part)]
        return [_unflipped(found, variant.get("flipped", False)) for found, variant in zip(outputs, part, strict=True)]

    def _prepared(self, part: list[dict[str, Any]]) -> ImageList:
        """The images of these variants as the model prepares them, which may be in a way of its own."""
        prepare: Any = getattr(self.model, "preprocess_image", self.model.preprocess)
        images: ImageList = prepare(part)
        return images

    def _masks(self, part: list[dict[str, Any]], boxes: Tensor, classes: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Of each of these variants the masks (N, S, S), from 0 to 1, of boxes (N, 4) in the original image of
        (height, width) ``size``; in that image's orientation."""
        images = self._prepared(part)
        found = []
        for variant, (height, width) in zip(part, images.image_sizes, strict=True):
            seen = _mirrored(boxes, size[1]) if variant.get("flipped", False) else boxes
            scale = boxes.new_tensor((width / size[1], height / size[0])).repeat(2)
            found.append(Instances((height, width), pred_boxes=seen * scale, pred_classes=classes))
        self.model.add_branches(images, found)  # type: ignore[operator]
        return [
            f.pred_masks.flip(-1) if variant.get("flipped", False) else f.pred_masks
            for f, variant in zip(found, part, strict=True)
        ]


def _unflipped(found: Instances, flipped: bool) -> Instances:
    """Boxes, scores and classes, in the image that was not mirrored."""
    boxes = found.pred_boxes.tensor
    if flipped:
        boxes = _mirrored(boxes, found.image_size[1])
    return Instances(found.image_size, pred_boxes=Boxes(boxes), scores=found.scores, pred_classes=found.pred_classes)


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    """Boxes (N, 4) in the mirror image of one of that width."""
    return torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), dim=1)
