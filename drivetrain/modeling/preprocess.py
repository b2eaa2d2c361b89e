"""From a batch of uint8 images to one normalised, padded float tensor, on the model's device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from drivetrain.errors import ModelError
from drivetrain.structures import ImageList

from .contract import Batch

__all__ = ["Preprocess"]


class Preprocess(nn.Module):
    """Normalises each channel, ``(value - mean) / std``, and pads at the right and bottom with zeros.

    Mean and standard deviation travel with ``model.to`` but are no part of ``state_dict``: they belong to the config.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], size_divisibility: int = 32) -> None:
        """Set the normalisation.

        Args:
            mean: per channel, on the 0..255 scale, in the channel order of the images.
            std: as ``mean``.
            size_divisibility: padded heights and widths are multiples of it.

        Raises:
            ModelError: mean and std differ in length.
        """
        super().__init__()
        if len(mean) != len(std):
            raise ModelError(
                f"MODEL.PIXEL_MEAN {list(mean)} and MODEL.PIXEL_STD {list(std)} differ in length: one value per channel"
            )
        self.size_divisibility = size_divisibility
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where images are moved to: the model's device."""
        return self.mean.device

    def forward(self, batch: Batch) -> ImageList:
        """The images of ``batch`` as floats, shape (N, C, H, W).

        Raises:
            ModelError: an entry has no ``image``, or one that is not (C, H, W) with the expected channels.
        """
        return self.normalize([self.image(entry) for entry in batch])

    def image(self, entry: dict[str, object]) -> Tensor:
        """The ``image`` of one entry, checked, on this device, not yet normalised."""
        return self._checked(entry).to(self.device, non_blocking=True)

    def _checked(self, entry: dict[str, object]) -> Tensor:
        image = entry.get("image") if isinstance(entry, dict) else None
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != self.mean.shape[0]:
            received = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else repr(type(image).__name__)
            raise ModelError(
                f"a batch is a list of dicts whose 'image' is a uint8 tensor ({self.mean.shape[0]}, H, W), one channel "
                f"per value of MODEL.PIXEL_MEAN, but {received} was received"
            )
        return image

    def groups(self, batch: Batch) -> list[list[int]]:
        """The places of the entries whose images get the same padded size, in one list per size.

        Run group by group, an image's predictions do not depend on which other images are in the batch.

        Raises:
            ModelError: as :meth:`forward`.
        """
        members: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, entry in enumerate(batch):
            padded = tuple(-(-side // self.size_divisibility) for side in self._checked(entry).shape[-2:])
            members[padded].append(i)
        return list(members.values())

    def normalize(self, images: Sequence[Tensor]) -> ImageList:
        """Pad images (C, H_i, W_i) on this device to one size and normalise them."""
        padded = ImageList.from_tensors(images, self.size_divisibility, dtype=self.mean.dtype)
        values = padded.tensor.sub_(self.mean).div_(self.std)
        for row, (height, width) in zip(values, padded.image_sizes, strict=True):
            # Padding was normalised too; it has to be zero, whatever the mean.
            row[:, height:] = 0
            row[:, :, width:] = 0
        return ImageList(values, padded.image_sizes)
