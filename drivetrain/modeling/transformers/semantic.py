"""The library's semantic segmentation models (SegFormer, UPerNet...) under the model contract."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from drivetrain.modeling.contract import Batch, Losses, Outputs
from drivetrain.modeling.targets import IGNORE_LABEL, label_map

from .adapter import TransformersModel

__all__ = ["TransformersSemanticSegmenter"]

_IGNORE_FIELDS = ("semantic_loss_ignore_index", "loss_ignore_index")


class TransformersSemanticSegmenter(TransformersModel):
    """A semantic segmentation model of the library.

    Target: ``sem_seg``, a map (H, W) of classes; the loss is ``loss_sem_seg``. Output: ``sem_seg``, the logits of each
    class in the size of the original image, float (K, H, W).
    """

    def __init__(self, net: nn.Module, *, ignore_label: int = IGNORE_LABEL, **options: Any) -> None:
        """Adapt ``net``.

        Args:
            net: a model of one of the library's ``...ForSemanticSegmentation`` classes.
            ignore_label: pixels that have it count nowhere.
            options: ``pixel_mean``, ``pixel_std``, ``bgr``, as of
                :class:`~drivetrain.modeling.transformers.adapter.TransformersModel`.
        """
        super().__init__(net, **options)
        for name in _IGNORE_FIELDS:
            if hasattr(self.net.config, name):
                setattr(self.net.config, name, ignore_label)
        self._ignore_label = ignore_label

    def batch_losses(self, batch: Batch) -> Losses:
        """See the class.

        Raises:
            ModelError: an entry has no ``sem_seg``, or one that does not fit the image or the classes.
        """
        images = self.prepare(batch)
        labels = torch.full((len(batch), *images.tensor.shape[-2:]), self._ignore_label)
        counted = False
        for row, entry, (height, width) in zip(labels, batch, images.image_sizes, strict=True):
            target = label_map(entry, (height, width), self.num_classes, self._ignore_label)
            counted = counted or bool((target != self._ignore_label).any())
            row[:height, :width] = target
        if not counted:  # the mean over no pixel is not a number
            return {"loss_sem_seg": self.net(pixel_values=images.tensor).logits.float().sum() * 0}
        output = self.net(pixel_values=images.tensor, labels=labels.to(images.device, non_blocking=True))
        return {"loss_sem_seg": output.loss}

    def batch_outputs(self, batch: Batch) -> Outputs:
        """``sem_seg`` per image."""
        images = self.prepare(batch)
        logits = self.net(pixel_values=images.tensor).logits.float()
        frames = self.frames(batch, images)
        return [{"sem_seg": frame.restore(of_image)} for frame, of_image in zip(frames, logits, strict=True)]
