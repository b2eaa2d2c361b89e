"""What every adapted model does with a batch, whatever library the network comes from."""

from __future__ import annotations

from typing import Any

from torch import nn

from drivetrain.errors import ModelError

from .contract import Batch, Losses, Outputs
from .preprocess import Preprocess

__all__ = ["AdaptedModel"]


class AdaptedModel(nn.Module):
    """Keeps the model contract; a subclass gives :meth:`batch_losses` and :meth:`batch_outputs`.

    It stands in front of a library's model among a class's bases, or holds the library's model as an attribute.

    Attributes:
        num_classes: of what the model predicts.
        preprocess: normalises and pads.
    """

    num_classes: int
    preprocess: Preprocess

    def forward(self, batch: Batch) -> Losses | Outputs:
        """Losses in training mode, outputs in evaluation mode; see :mod:`drivetrain.modeling.contract`.

        In evaluation mode the outputs for an image do not depend on which others are in the batch: only images of
        one padded size run together.

        Raises:
            ModelError: the batch is empty or an entry lacks what the contract asks for.
        """
        if not batch:
            raise ModelError("the batch is empty: a model is called with a list of at least one dict")
        if self.training:
            return self.batch_losses(batch)
        outputs: list[dict[str, Any]] = [{} for _ in batch]
        for members in self.preprocess.groups(batch):
            for i, output in zip(members, self.batch_outputs([batch[i] for i in members]), strict=True):
                outputs[i] = output
        return outputs

    def batch_losses(self, batch: Batch) -> Losses:
        """The losses of a batch with targets."""
        raise NotImplementedError

    def batch_outputs(self, batch: Batch) -> Outputs:
        """The outputs for images whose padded sizes are equal."""
        raise NotImplementedError
