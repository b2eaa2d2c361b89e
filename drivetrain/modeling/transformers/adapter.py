"""What all adapted transformers models share: the way from a batch to the network, and groups of images of one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.functional import pad

from drivetrain.modeling.adapted import AdaptedModel
from drivetrain.modeling.contract import Batch
from drivetrain.modeling.preprocess import Preprocess
from drivetrain.structures import ImageList

from .frames import Frame
from .idle import freeze_idle

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "TransformersModel"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_BACKBONES = ("model.backbone", "model.pixel_level_module.encoder", "backbone")


class TransformersModel(AdaptedModel):
    """A model of the transformers library under the model contract; a subclass gives losses and outputs.

    The network always sees RGB, whatever the order of the batch, so that ``model.net.save_pretrained(folder)`` writes
    weights that fit everywhere.

    Attributes:
        net: the library's model; parameters that no loss reaches no longer require gradients.
        num_classes: ``net.config.num_labels``.
    """

    net: Any

    def __init__(
        self,
        net: nn.Module,
        *,
        pixel_mean: Sequence[float] = IMAGENET_MEAN,
        pixel_std: Sequence[float] = IMAGENET_STD,
        bgr: bool = False,
        size_divisibility: int = 32,
        square: bool = False,
    ) -> None:
        """Adapt ``net``.

        Args:
            net: a model of the library.
            pixel_mean: per channel in the batch's order, 0..255 scale.
            pixel_std: as ``pixel_mean``.
            bgr: whether the batch's images are BGR.
            size_divisibility: padded heights and widths are multiples of it.
            square: whether images are padded to squares.
        """
        super().__init__()
        self.net = net
        self.num_classes = int(self.net.config.num_labels)
        self.preprocess = Preprocess(pixel_mean, pixel_std, size_divisibility)
        freeze_idle(net)
        self._bgr = bgr
        self._square = square

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the backbone, or the whole network where it is not set apart."""
        parts = dict(self.net.named_modules())
        next((parts[name] for name in _BACKBONES if name in parts), self.net).compile(*args, **kwargs)

    def prepare(self, batch: Batch) -> ImageList:
        """The normalised, padded images of a batch, RGB."""
        images: ImageList = self.preprocess(batch)
        values = images.tensor.flip(1) if self._bgr else images.tensor
        if self._square:
            height, width = values.shape[-2:]
            side = max(height, width)
            values = pad(values, (0, side - width, 0, side - height))
        return ImageList(values, images.image_sizes)

    def frames(self, batch: Batch, images: ImageList) -> list[Frame]:
        """Per image its sizes: padded, as prepared, original."""
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        return [
            Frame(padded, size, (int(entry.get("height", size[0])), int(entry.get("width", size[1]))))
            for entry, size in zip(batch, images.image_sizes, strict=True)
        ]
