"""What detectron2's mapper does in training, step by step, written from its behaviour: to be measured beside.

PIL decodes to an array whose channels are then reversed by a view, PIL resizes it, each annotation is transformed by
itself with the box converted by way of a tensor, and the tensor is a contiguous copy of the transposed array.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from drivetrain.data.transforms import shortest_edge_size
from drivetrain.structures import Boxes, BoxMode, Instances, PolygonMasks

__all__ = ["LONGEST", "Reference"]

Array = np.ndarray[Any, Any]
Record = dict[str, Any]

LONGEST = 1333
"""The limit on the longer edge."""


class PillowResize:
    """detectron2's resize: by PIL, bilinear, of an array."""

    def __init__(self, height: int, width: int, new_height: int, new_width: int) -> None:
        self.sizes = (height, width, new_height, new_width)

    def apply_image(self, image: Array) -> Array:
        """The resized image (height, width, 3)."""
        if any(stride < 0 for stride in image.strides):
            image = np.ascontiguousarray(image)
        return np.asarray(Image.fromarray(image).resize(self.sizes[:1:-1], Image.Resampling.BILINEAR))

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), scaled."""
        height, width, new_height, new_width = self.sizes
        coords[:, 0] = coords[:, 0] * (new_width * 1.0 / width)
        coords[:, 1] = coords[:, 1] * (new_height * 1.0 / height)
        return coords


class Mirror:
    """detectron2's horizontal flip."""

    def __init__(self, width: int) -> None:
        self.width = width

    def apply_image(self, image: Array) -> Array:
        """A view of the image (height, width, 3), mirrored."""
        return np.flip(image, axis=1)

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), mirrored."""
        coords[:, 0] = self.width - coords[:, 0]
        return coords


class Reference:
    """The steps of detectron2's ``DatasetMapper`` in training, as parts."""

    def __init__(self, short: int, mirror: bool, masks: bool) -> None:
        self.short, self.mirror, self.masks = short, mirror, masks

    def __call__(self, record: Record) -> dict[str, Any]:
        """The sample of a record."""
        sample = copy.deepcopy(record)
        image = self.decode(sample)
        transforms = self.transforms(image)
        image = self.move(image, transforms)
        sample["image"] = self.tensor(image)
        sample["instances"] = self.targets(sample.pop("annotations"), transforms, image.shape[:2])
        return sample

    def decode(self, record: Record) -> Array:
        """The image as BGR."""
        with open(record["file_name"], "rb") as file:
            image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
        return np.asarray(image)[:, :, ::-1]

    def transforms(self, image: Array) -> list[Any]:
        """What is done to an image."""
        height, width = image.shape[:2]
        resize = PillowResize(height, width, *shortest_edge_size(height, width, self.short, LONGEST))
        return [resize, Mirror(resize.sizes[3])] if self.mirror else [resize]

    def move(self, image: Array, transforms: list[Any]) -> Array:
        """The transformed image."""
        for transform in transforms:
            image = transform.apply_image(image)
        return image

    def tensor(self, image: Array) -> torch.Tensor:
        """The image as a contiguous tensor."""
        return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))

    def targets(self, objects: list[Record], transforms: list[Any], size: tuple[int, int]) -> Instances:
        """The objects, one after the other."""
        objects = [self.one(item, transforms, size) for item in objects if item.get("iscrowd", 0) == 0]
        instances = Instances(size)
        boxes = np.stack([to_corners(item["bbox"], item["bbox_mode"]) for item in objects])
        instances.gt_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32))
        instances.gt_classes = torch.tensor([int(item["category_id"]) for item in objects], dtype=torch.int64)
        keep = instances.gt_boxes.nonempty(threshold=1e-5)
        if self.masks:
            instances.gt_masks = PolygonMasks([item["segmentation"] for item in objects])
            keep = keep & instances.gt_masks.nonempty()
        return instances[keep]

    def one(self, item: Record, transforms: list[Any], size: tuple[int, int]) -> Record:
        """An object's box, clipped, and polygons after the transforms."""
        box = np.array([to_corners(item["bbox"], item["bbox_mode"])])
        corners = np.array([(0, 1), (2, 1), (0, 3), (2, 3)]).flatten()
        for transform in transforms:
            points = transform.apply_coords(box.reshape(-1, 4)[:, corners].reshape(-1, 2)).reshape(-1, 4, 2)
            box = np.concatenate((points.min(axis=1), points.max(axis=1)), axis=1)
        item["bbox"], item["bbox_mode"] = np.minimum(box[0].clip(min=0), [*size, *size][::-1]), BoxMode.XYXY_ABS
        if not self.masks:
            item.pop("segmentation", None)
            return item
        polygons = [np.asarray(polygon).reshape(-1, 2) for polygon in item["segmentation"]]
        for transform in transforms:
            polygons = [transform.apply_coords(polygon) for polygon in polygons]
        item["segmentation"] = [polygon.reshape(-1) for polygon in polygons]
        return item


def to_corners(box: Any, mode: BoxMode) -> Any:
    """One box, a list of 4 numbers, by way of a tensor, as detectron2 converts it."""
    if mode == BoxMode.XYXY_ABS:
        return box
    rows = torch.tensor(box)[None, :]
    rows[:, 2] += rows[:, 0]
    rows[:, 3] += rows[:, 1]
    return type(box)(rows.flatten().tolist())
