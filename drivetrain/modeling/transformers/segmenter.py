"""Mask2Former and MaskFormer under the model contract: instance, semantic and panoptic segmentation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from drivetrain.errors import ModelError
from drivetrain.modeling.contract import Batch, Losses, Outputs
from drivetrain.modeling.targets import IGNORE_LABEL, label_map, objects
from drivetrain.structures import BitMasks, PolygonMasks

from .adapter import IMAGENET_MEAN, IMAGENET_STD, TransformersModel
from .frames import Frame
from .losses import Float32, loss_terms
from .segments import MaskFormat, instance_segments, panoptic_segments, semantic_scores

__all__ = ["SegmentationTask", "TransformersSegmenter"]

SegmentationTask = Literal["instance", "semantic", "panoptic"]
"""What a network that predicts a class and a mask per query is trained for."""


class TransformersSegmenter(TransformersModel):
    """Mask2Former or MaskFormer: a class and a mask per query.

    Targets: ``instances`` with ``gt_masks`` and ``gt_classes``, of things and stuff for the panoptic task; for the
    semantic task ``sem_seg``, a map (H, W) of classes. Outputs: ``instances`` with ``pred_masks``, ``sem_seg``, or
    ``panoptic_seg``, each in the size of the original image; see :mod:`drivetrain.modeling.transformers.segments`.

    Losses are ``loss_cross_entropy``, ``loss_mask`` and ``loss_dice``, each with ``_aux`` for the layers before the
    last.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        task: SegmentationTask = "instance",
        stuff_classes: Collection[int] = (),
        pixel_mean: Sequence[float] = IMAGENET_MEAN,
        pixel_std: Sequence[float] = IMAGENET_STD,
        bgr: bool = False,
        score_thresh: float = 0.05,
        detections_per_image: int = 100,
        mask_format: MaskFormat = "bitmask",
        ignore_label: int = IGNORE_LABEL,
        min_score: float = 0.8,
        min_visible: float = 0.8,
    ) -> None:
        """Adapt ``net``.

        Args:
            net: a ``Mask2FormerForUniversalSegmentation`` or ``MaskFormerForInstanceSegmentation``.
            task: what it is trained for.
            stuff_classes: for the panoptic task, classes that are not counted one by one.
            pixel_mean: per channel in the batch's order, 0..255 scale.
            pixel_std: as ``pixel_mean``.
            bgr: whether the batch's images are BGR.
            score_thresh: for the instance task, only those scored higher are given.
            detections_per_image: for the instance task, at most so many are given.
            mask_format: what ``pred_masks`` is: a bool tensor (N, H, W), or with ``"rle"`` a list of run lengths.
            ignore_label: for the semantic task, pixels that have it count nowhere.
            min_score: for the panoptic task, queries scored no higher are left out.
            min_visible: for the panoptic task, segments that show a smaller share of their mask are left out.
        """
        super().__init__(net, pixel_mean=pixel_mean, pixel_std=pixel_std, bgr=bgr)
        self._task = task
        self._stuff = frozenset(stuff_classes)
        self._score_thresh = score_thresh
        self._most = detections_per_image
        self._mask_format: MaskFormat = mask_format
        self._ignore_label = ignore_label
        self._min_score = min_score
        self._min_visible = min_visible

    def batch_losses(self, batch: Batch) -> Losses:
        """See the class.

        Raises:
            ModelError: an entry lacks its targets, or they do not fit the image or the classes.
        """
        images = self.prepare(batch)
        height, width = images.tensor.shape[-2:]
        masks, classes = [], []
        for entry, size in zip(batch, images.image_sizes, strict=True):
            segments, labels = self._segments(entry, size)
            segments = segments.to(images.device, non_blocking=True)
            masks.append(pad(segments, (0, width - size[1], 0, height - size[0])).float())
            classes.append(labels.to(images.device, torch.int64, non_blocking=True))
        config = self.net.config
        output = self.net(
            pixel_values=images.tensor,
            output_auxiliary_logits=True,
            # MaskFormer's auxiliary outputs are made of them.
            output_hidden_states=config.model_type == "maskformer" and config.use_auxiliary_loss,
        )
        loss_dict = Float32(self.net.get_loss_dict)(
            output.masks_queries_logits, output.class_queries_logits, masks, classes, output.auxiliary_logits
        )
        return loss_terms(loss_dict)

    def batch_outputs(self, batch: Batch) -> Outputs:
        """``instances``, ``sem_seg`` or ``panoptic_seg`` per image."""
        images = self.prepare(batch)
        output = self.net(pixel_values=images.tensor)
        classes, masks = output.class_queries_logits.float(), output.masks_queries_logits.float()
        return [
            self._output(of_class, of_mask, frame)
            for of_class, of_mask, frame in zip(classes, masks, self.frames(batch, images), strict=True)
        ]

    def _output(self, class_logits: Tensor, mask_logits: Tensor, frame: Frame) -> dict[str, Any]:
        """What the task asks for, of one image's queries."""
        if self._task == "instance":
            limits: dict[str, Any] = {"most": self._most, "threshold": self._score_thresh}
            found = instance_segments(class_logits, mask_logits, frame, mask_format=self._mask_format, **limits)
            return {"instances": found}
        if self._task == "semantic":
            return {"sem_seg": semantic_scores(class_logits, mask_logits, frame)}
        limits = {"min_score": self._min_score, "min_visible": self._min_visible}
        return {"panoptic_seg": panoptic_segments(class_logits, mask_logits, frame, stuff=self._stuff, **limits)}

    def _segments(self, entry: dict[str, Any], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Masks (N, H, W), bool, and classes (N,) of one image of ``size``."""
        if self._task == "semantic":
            labels = label_map(entry, size, self.num_classes, self._ignore_label)
            present = torch.unique(labels)
            present = present[present != self._ignore_label]
            return labels == present[:, None, None], present
        instances = objects(entry, self.num_classes, "gt_masks")
        masks = instances.gt_masks
        if isinstance(masks, PolygonMasks):
            masks = BitMasks.from_polygon_masks(masks, *size)
        bitmaps: Tensor = masks.tensor if isinstance(masks, BitMasks) else torch.as_tensor(masks)
        if bitmaps.shape[1:] != size:
            raise ModelError(
                f"the masks of {entry.get('file_name', 'an image')} are {tuple(bitmaps.shape[1:])}, but its image is "
                f"{size} pixels high and wide"
            )
        return bitmaps.bool(), instances.gt_classes
