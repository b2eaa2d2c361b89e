"""The library's image classifiers under the model contract."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from drivetrain.modeling.contract import Batch, Losses, Outputs
from drivetrain.modeling.targets import class_ids

from .adapter import TransformersModel

__all__ = ["TransformersClassifier"]


class TransformersClassifier(TransformersModel):
    """An image classifier of the library.

    Target: ``class_id``, from 0; the loss is ``loss_cls``, the cross entropy. Output: ``classes``, the probability of
    each class, float (K,). Images are padded to one size in training; transformers of patches take any size that the
    library can stretch their position embeddings to.
    """

    def __init__(self, net: nn.Module, **options: Any) -> None:
        """Adapt ``net``.

        Args:
            net: a model of one of the library's ``...ForImageClassification`` classes.
            options: ``pixel_mean``, ``pixel_std``, ``bgr``, as of
                :class:`~drivetrain.modeling.transformers.adapter.TransformersModel`.
        """
        super().__init__(net, size_divisibility=1, **options)
        self.net.config.problem_type = "single_label_classification"
        takes = inspect.signature(self.net.forward).parameters
        self._arguments = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}

    def batch_losses(self, batch: Batch) -> Losses:
        """See the class.

        Raises:
            ModelError: an entry has no ``class_id``, or one that the model does not have.
        """
        images = self.prepare(batch)
        labels = class_ids(batch, self.num_classes).to(images.device, non_blocking=True)
        return {"loss_cls": self.net(pixel_values=images.tensor, labels=labels, **self._arguments).loss}

    def batch_outputs(self, batch: Batch) -> Outputs:
        """``classes`` per image."""
        logits: Tensor = self.net(pixel_values=self.prepare(batch).tensor, **self._arguments).logits
        return [{"classes": probabilities} for probabilities in logits.float().softmax(dim=1)]
