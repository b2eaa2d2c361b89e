"""Keypoints of instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Keypoints"]


class Keypoints:
    """The K keypoints of each of N instances.

    Attributes:
        tensor: float32 of shape (N, K, 3): x and y in absolute pixels and the visibility, which is 0 (not labelled),
            1 (labelled, hidden) or 2 (labelled, visible), as in COCO. In predictions the third number is a
            score.
    """

    def __init__(self, keypoints: Tensor | np.ndarray[Any, Any] | Sequence[Sequence[Sequence[float]]]) -> None:
        """Hold ``keypoints``, converted to float32.

        Raises:
            ValueError: the shape is not (N, K, 3).
        """
        tensor = torch.as_tensor(keypoints, dtype=torch.float32)
        if tensor.ndim == 1 and tensor.numel() == 0:
            tensor = tensor.reshape(0, 0, 3)
        if tensor.ndim != 3 or tensor.shape[2] != 3:
            raise ValueError(f"keypoints have the shape (N, K, 3), but {tuple(tensor.shape)} was received")
        self.tensor = tensor

    def to(self, *args: Any, **kwargs: Any) -> Keypoints:
        """The same keypoints, moved as ``Tensor.to`` would."""
        return Keypoints(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        """Where the tensor lies."""
        return self.tensor.device

    def __getitem__(self, item: int | slice | Tensor | np.ndarray[Any, Any] | Sequence[int]) -> Keypoints:
        """Those of the instances at an integer, slice, bool mask (N,) or integer indices; always Keypoints."""
        picked = self.tensor[item]
        return Keypoints(picked[None] if picked.ndim == 2 else picked)

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """The place of each keypoint in a square map that is stretched over the box of its instance.

        Args:
            boxes: XYXY in pixels, (N, 4).
            heatmap_size: rows and columns of the map.

        Returns:
            The places, int64 (N, K), row * ``heatmap_size`` + column; and which keypoints are labelled and in the box,
            bool (N, K). The far edge of a box belongs to its last row or column; places of the other keypoints are 0.
        """
        low, high = boxes[:, None, :2], boxes[:, None, 2:]
        points = self.tensor[..., :2]
        cells = ((points - low) * (heatmap_size / (high - low))).floor().to(torch.int64)
        cells = torch.where(points == high, heatmap_size - 1, cells)
        valid = ((cells >= 0) & (cells < heatmap_size)).all(dim=-1) & (self.tensor[..., 2] > 0)
        return (cells[..., 1] * heatmap_size + cells[..., 0]) * valid, valid

    @classmethod
    def cat(cls, keypoints_list: Sequence[Keypoints]) -> Keypoints:
        """The keypoints of all instances in order; ValueError for an empty list, which leaves K unknown."""
        if not keypoints_list:
            raise ValueError("nothing to join: the list of keypoints is empty")
        return cls(torch.cat([keypoints.tensor for keypoints in keypoints_list], dim=0))

    def __len__(self) -> int:
        """The number of instances N."""
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        """The number of instances and of keypoints each."""
        return f"Keypoints(num_instances={len(self)}, num_keypoints={self.tensor.shape[1]})"
