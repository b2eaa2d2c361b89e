"""Transforms of samples that are mapped already."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from drivetrain.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from .transforms.base import Transform

__all__ = ["moved_instances", "moved_labels", "moved_sample"]

_SMALLEST_SIDE = 1e-5  # pixels; detectors refuse boxes without area


def moved_sample(sample: dict[str, Any], transform: Transform) -> dict[str, Any]:
    """A copy of a mapped sample whose ``image``, ``instances`` and ``sem_seg`` went through ``transform``.

    Args:
        sample: ``image`` uint8 (C, H, W); not changed.
        transform: for images of that size.
    """
    moved = {**sample, "image": transform.apply_image(sample["image"])}
    if "instances" in sample:
        moved["instances"] = moved_instances(sample["instances"], transform)
    if "sem_seg" in sample:
        moved["sem_seg"] = moved_labels(sample["sem_seg"], transform).to(sample["sem_seg"].dtype)
    return moved


def moved_labels(labels: torch.Tensor, transform: Transform, fill: int = 255) -> torch.Tensor:
    """A label map (H, W) after ``transform``, int64.

    Transforms take labels of 8 bits; those of 16 go through as two of 8.

    Args:
        labels: whole numbers below 65536, of any type.
        transform: for images of that size.
        fill: the label of pixels that were not in the image.
    """

    def moved(part: torch.Tensor, fill: int) -> torch.Tensor:
        return transform.apply_segmentation(part.to(torch.uint8), fill).to(torch.int64)

    small = labels.dtype == torch.uint8
    low = moved(labels if small else labels & 255, fill & 255)
    if fill < 256 and (small or not bool((labels > 255).any())):
        return low
    return low + 256 * moved(labels.to(torch.int64) >> 8, fill >> 8)


def moved_instances(instances: Instances, transform: Transform) -> Instances:
    """The targets after ``transform``: boxes clipped to the image, and objects with nothing left dropped.

    Args:
        instances: with ``gt_boxes`` (XYXY, pixels) and, as the case may be, ``gt_masks`` and ``gt_keypoints``; fields
            of other names are kept. Not changed.
        transform: what happened to the image.
    """
    height, width = transform.output_size
    moved = Instances((height, width))
    usable = torch.ones(len(instances), dtype=torch.bool)
    for name, value in instances.get_fields().items():
        if isinstance(value, Boxes):
            boxes = transform.apply_boxes(value.tensor.numpy().astype(np.float64))
            boxes = np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float64))
            value = Boxes(torch.from_numpy(boxes.astype(np.float32)))
            usable &= (value.tensor[:, 2:] - value.tensor[:, :2] > _SMALLEST_SIDE).all(dim=1)
        elif isinstance(value, PolygonMasks):
            value = PolygonMasks([transform.apply_polygons(polygons) for polygons in value])
            usable &= value.nonempty()
        elif isinstance(value, BitMasks):
            value = BitMasks(transform.apply_bitmask(value.tensor))
            usable &= value.nonempty()
        elif isinstance(value, Keypoints):
            value = Keypoints(_moved_keypoints(value.tensor, transform))
        moved.set(name, value)
    return moved if bool(usable.all()) else moved[usable]


def _moved_keypoints(keypoints: torch.Tensor, transform: Transform) -> torch.Tensor:
    """Keypoints (N, K, 3) after a transform that exchanges no sides; those that leave the image become 0, 0, 0."""
    points = transform.apply_keypoints(keypoints.numpy().astype(np.float64))
    height, width = transform.output_size
    inside = ((points[..., :2] >= 0) & (points[..., :2] <= np.array([width, height]))).all(axis=-1)
    points[~(inside & (points[..., 2] > 0))] = 0
    return torch.from_numpy(points.astype(np.float32))
