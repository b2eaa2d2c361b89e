"""detectron2's ``ROIMasks``: predicted masks as the squares that a mask head gives, one for each box."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from drivetrain.modeling.detectron2.mask_head import paste_masks
from drivetrain.structures import BitMasks, Boxes

__all__ = ["ROIMasks"]


class ROIMasks:
    """N masks of M x M scores each, 0 to 1, in the frame of boxes that are kept elsewhere.

    Attributes:
        tensor: (N, M, M).
    """

    def __init__(self, tensor: Tensor) -> None:
        """Hold the scores.

        Raises:
            ValueError: the shape is not (N, M, M).
        """
        if tensor.ndim != 3:
            raise ValueError(f"the masks of boxes have the shape (N, M, M), but {tuple(tensor.shape)} was received")
        self.tensor = tensor

    def to(self, device: torch.device | str) -> ROIMasks:
        """The same masks on another device."""
        return ROIMasks(self.tensor.to(device))

    @property
    def device(self) -> torch.device:
        """Where the scores lie."""
        return self.tensor.device

    def __len__(self) -> int:
        """The number of masks."""
        return self.tensor.shape[0]

    def __getitem__(self, item: Any) -> ROIMasks:
        """The masks at a slice, bool mask (N,) or integer indices; ValueError at an integer, which leaves one mask."""
        return ROIMasks(self.tensor[item])

    def __repr__(self) -> str:
        """The number of masks."""
        return f"ROIMasks(num_instances={len(self)})"

    def to_bitmasks(self, boxes: Boxes | Tensor, height: int, width: int, threshold: float = 0.5) -> BitMasks:
        """The masks as bitmaps of an image, by the rule of detectron2's pasting.

        Args:
            boxes: where the masks lie, XYXY in pixels, (N, 4).
            height: of the image, in pixels.
            width: of the image, in pixels.
            threshold: from this score on a pixel belongs to the mask.
        """
        tensor = boxes.tensor if isinstance(boxes, Boxes) else boxes
        return BitMasks(paste_masks(self.tensor, tensor, (height, width), threshold))
