"""Where an image lies in what a network saw, and the way back from the network's maps to the original image."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["Frame"]


class Frame(NamedTuple):
    """Sizes (height, width) of one image on its way through a network.

    Attributes:
        padded: of the tensor that the network saw, in pixels.
        image: of the image in its top left corner, without the padding.
        original: of the image before it was resized for the network.
    """

    padded: tuple[int, int]
    image: tuple[int, int]
    original: tuple[int, int]

    def crop(self, maps: Tensor) -> Tensor:
        """Maps (N, h, w) over the padded tensor as maps (N, H, W) over the image, bilinearly."""
        height, width = self.image
        return _resize(maps, self.padded)[:, :height, :width]

    def restore(self, maps: Tensor) -> Tensor:
        """Maps (N, h, w) over the padded tensor as maps (N, H, W) over the original image, bilinearly.

        Without padding it is one interpolation; with it the first makes the maps as large as the padded tensor, as
        in Mask2Former's own code, for the padding to be cut off at a pixel's edge.
        """
        return _resize(maps if self.image == self.padded else self.crop(maps), self.original)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, h, w) at another size, bilinearly."""
    resized: Tensor = interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    return resized
