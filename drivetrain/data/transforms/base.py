"""What a transform and an augmentation are.

An `Augmentation` is a recipe with chance in it ("flip with probability 0.5"); given a random generator and the size
of an image it draws a `Transform`, which has none left ("flip an image 640 pixels wide") and does the same to an image
and to everything that is drawn on it: boxes, polygons, masks, keypoints.

Images are uint8 tensors (C, H, W), in any memory layout; numpy arrays (H, W, C) or (H, W) are taken too and returned as
such. Coordinates are absolute pixels, x to the right and y down, with (0, 0) at the top left corner of the image and
(W, H) at the bottom right one.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import ConfigError

__all__ = ["Augmentation", "Compose", "NoOpTransform", "Transform", "TransformList", "fixed", "load_kernels"]

Array = np.ndarray[Any, Any]
Size = tuple[int, int]
ImageLike = TypeVar("ImageLike", Tensor, Array)


class Transform(ABC):
    """A deterministic change of an image and of what lies on it.

    Subclasses define `_image` and `apply_coords`, and `_mask` where a mask is not changed in the way an image is.

    Attributes:
        input_size: (height, width) of the images it is for.
        output_size: (height, width) of the images it makes.
        mirrored: whether left and right are exchanged, so that "left hand" and "right hand" have to be.
    """

    mirrored: bool = False

    def __init__(self, input_size: Size, output_size: Size | None = None) -> None:
        """A transform of images of ``input_size``, (height, width), to ``output_size`` (None: the same)."""
        self.input_size = input_size
        self.output_size = input_size if output_size is None else output_size

    @abstractmethod
    def _image(self, image: Tensor) -> Tensor:
        """The transformed image; (C, H, W) in and out."""

    @abstractmethod
    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), x and y, after the transform; floating point in and out, the input is not changed."""

    def _mask(self, masks: Tensor) -> Tensor:
        """The transformed masks; (N, H, W) uint8 in and out."""
        return self._image(masks)

    def _labels(self, labels: Tensor, fill: int) -> Tensor:
        """The transformed label maps, (N, H, W) uint8; ``fill`` is the label of what was not in the image."""
        return self._mask(labels)

    def apply_image(self, image: ImageLike) -> ImageLike:
        """The transformed image: uint8, tensor (C, H, W) or array (H, W, C) or (H, W), returned in the same form.

        Raises:
            ValueError: the image does not have ``input_size``.
        """
        if isinstance(image, Tensor):
            self._check_size(image.shape[-2:])
            return self._image(image)
        self._check_size(image.shape[:2])
        view = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        moved = self._image(view[None] if view.ndim == 2 else view.permute(2, 0, 1))
        plain = moved[0] if view.ndim == 2 else moved.permute(1, 2, 0)
        return np.asarray(plain.contiguous().numpy())

    def apply_boxes(self, boxes: Array) -> Array:
        """The boxes (N, 4), x0, y0, x1, y1, around the transformed corners; not clipped to the image."""
        if len(boxes) == 0:
            return np.array(boxes)
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
        moved = self.apply_coords(corners).reshape(-1, 4, 2)
        return np.concatenate((moved.min(axis=1), moved.max(axis=1)), axis=1)

    def apply_polygons(self, polygons: Sequence[Array | Sequence[float]]) -> list[Array]:
        """One instance's polygons, each [x0, y0, x1, y1, ...], as flat float64 arrays."""
        points = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in polygons]
        return [self.apply_coords(p).reshape(-1) for p in points]

    def apply_bitmask(self, mask: ImageLike) -> ImageLike:
        """The transformed masks, (H, W) or (N, H, W), tensor or array, in the form and dtype they came in.

        Raises:
            ValueError: the mask does not have ``input_size``.
        """
        self._check_size(mask.shape[-2:])
        as_tensor = mask if isinstance(mask, Tensor) else torch.from_numpy(np.require(mask, requirements=["C", "W"]))
        stack = as_tensor[None] if as_tensor.ndim == 2 else as_tensor
        moved = self._mask(stack.to(torch.uint8)).to(as_tensor.dtype)
        plain = moved[0] if as_tensor.ndim == 2 else moved
        return plain if isinstance(mask, Tensor) else np.asarray(plain.contiguous().numpy())

    def apply_segmentation(self, labels: ImageLike, fill: int = 255) -> ImageLike:
        """The transformed label map (H, W), uint8, tensor or array, in the form it came in.

        Args:
            labels: a class for each pixel.
            fill: the label of pixels that were not in the image, such as those of a padded border.

        Raises:
            ValueError: the map does not have ``input_size``.
        """
        self._check_size(labels.shape)
        if isinstance(labels, Tensor):
            return self._labels(labels[None], fill)[0]
        view = torch.from_numpy(np.require(labels, requirements=["C", "W"]))
        return np.asarray(self._labels(view[None], fill)[0].contiguous().numpy())

    def apply_keypoints(self, keypoints: Array, flip_indices: Sequence[int] | None = None) -> Array:
        """The keypoints (N, K, 3), x, y and visibility, with left and right exchanged where the image is mirrored.

        Args:
            keypoints: floating point; the visibility is kept.
            flip_indices: for each of the K keypoints, the index of its counterpart on the other side (its own index
                for those in the middle). Without it, a mirrored "left hand" stays a left hand.
        """
        moved: Array = np.array(keypoints)
        moved[..., :2] = self.apply_coords(keypoints[..., :2].reshape(-1, 2)).reshape(*keypoints.shape[:-1], 2)
        if self.mirrored and flip_indices is not None:
            moved = moved[:, np.asarray(flip_indices, dtype=np.int64)]
        return moved

    def _check_size(self, size: Sequence[int]) -> None:
        if tuple(size) != tuple(self.input_size):
            raise ValueError(
                f"this {type(self).__name__} was made for images of height x width {self.input_size[0]} x "
                f"{self.input_size[1]}, not {size[0]} x {size[1]}"
            )


class NoOpTransform(Transform):
    """Changes nothing."""

    def _image(self, image: Tensor) -> Tensor:
        return image

    def apply_coords(self, coords: Array) -> Array:
        """The points as they are."""
        return np.array(coords)


class TransformList(Transform):
    """Several transforms, one after the other.

    Attributes:
        transforms: the list.
    """

    def __init__(self, transforms: Sequence[Transform], input_size: Size) -> None:
        """Chain ``transforms``; ``input_size`` is needed as the list may be empty.

        Raises:
            ValueError: a transform is made for images of another size than its predecessor makes.
        """
        size = input_size
        for transform in transforms:
            transform._check_size(size)
            size = transform.output_size
        super().__init__(input_size, size)
        self.transforms = list(transforms)
        self.mirrored = sum(t.mirrored for t in transforms) % 2 == 1

    def _image(self, image: Tensor) -> Tensor:
        for transform in self.transforms:
            image = transform._image(image)
        return image

    def _mask(self, masks: Tensor) -> Tensor:
        for transform in self.transforms:
            masks = transform._mask(masks)
        return masks

    def _labels(self, labels: Tensor, fill: int) -> Tensor:
        for transform in self.transforms:
            labels = transform._labels(labels, fill)
        return labels

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2) after all transforms."""
        for transform in self.transforms:
            coords = transform.apply_coords(coords)
        return coords

    def apply_boxes(self, boxes: Array) -> Array:
        """The boxes (N, 4), x0, y0, x1, y1, after all transforms; not clipped to the image."""
        for transform in self.transforms:
            boxes = transform.apply_boxes(boxes)
        return boxes

    def apply_polygons(self, polygons: Sequence[Array | Sequence[float]]) -> list[Array]:
        """One instance's polygons after all transforms, as flat float64 arrays; a crop may cut some away."""
        out = [np.asarray(p, dtype=np.float64) for p in polygons]
        for transform in self.transforms:
            out = transform.apply_polygons(out)
        return out


class Augmentation(ABC):
    """A random change of images: something that draws transforms.

    Attributes:
        needs_boxes: whether it looks at the boxes of the objects; then `draw_around` has to be called.
        needs_image: whether it looks at the pixels; then `draw_in` has to be called.
    """

    needs_boxes: bool = False
    needs_image: bool = False

    @abstractmethod
    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """Decide what to do to an image of this size.

        Args:
            rng: where all chance comes from: equal generators give equal transforms.
            height: of the image, in pixels.
            width: of the image, in pixels.
        """

    def draw_around(self, rng: np.random.Generator, height: int, width: int, boxes: Array) -> Transform:
        """Decide what to do to an image of this size with objects in these boxes (N, 4), x0, y0, x1, y1, in pixels."""
        return self.draw(rng, height, width)

    def draw_in(self, rng: np.random.Generator, image: Array, boxes: Array) -> Transform:
        """Decide what to do to this image, (H, W, C) or (H, W), with objects in these boxes (N, 4), in pixels."""
        return self.draw_around(rng, int(image.shape[0]), int(image.shape[1]), boxes)

    def get_transform(self, image: Array | Tensor) -> Transform:
        """A transform for ``image``, (H, W, C) array or (C, H, W) tensor, drawn from NumPy's global generator."""
        height, width = image.shape[-2:] if isinstance(image, Tensor) else image.shape[:2]
        return self.draw(np.random.default_rng(np.random.randint(0, 2**31 - 1)), int(height), int(width))


class _Fixed(Augmentation):
    """An augmentation without chance."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Transform:
        """The transform."""
        return self.transform


def load_kernels() -> None:
    """Import torchvision's image kernels now.

    Augmentations call this when they are made, so that worker processes forked later inherit the modules instead of
    spending seconds, each for itself, on importing them with the first image.
    """
    importlib.import_module("torchvision.transforms.v2.functional")


def fixed(transform: Transform) -> Augmentation:
    """The augmentation that always draws ``transform``."""
    return _Fixed(transform)


class Compose(Augmentation):
    """Several augmentations, one after the other.

    Attributes:
        augmentations: the list.
    """

    def __init__(self, augmentations: Sequence[Any]) -> None:
        """Chain ``augmentations``: of this package, fixed transforms, torchvision v2 transforms, or anything with a
        method ``as_augmentation``.

        Raises:
            ConfigError: one of them is none of these.
        """
        self.augmentations = [_as_augmentation(a) for a in augmentations]

    @property
    def needs_boxes(self) -> bool:  # type: ignore[override]
        """Whether one of them does."""
        return any(augmentation.needs_boxes for augmentation in self.augmentations)

    @property
    def needs_image(self) -> bool:  # type: ignore[override]
        """Whether one of them does."""
        return any(augmentation.needs_image for augmentation in self.augmentations)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> TransformList:
        """Draw from each augmentation in turn, for the size that its predecessors leave."""
        return self.draw_around(rng, height, width, np.zeros((0, 4)))

    def draw_around(self, rng: np.random.Generator, height: int, width: int, boxes: Array) -> TransformList:
        """Draw from each augmentation in turn, for the size that its predecessors leave and the boxes there."""
        size, last = (height, width), len(self.augmentations) - 1
        drawn = []
        for index, augmentation in enumerate(self.augmentations):
            transform = augmentation.draw_around(rng, *size, boxes)
            if len(boxes) and index < last:
                boxes = transform.apply_boxes(boxes)
            size = transform.output_size
            drawn.append(transform)
        return TransformList(drawn, (height, width))

    def draw_in(self, rng: np.random.Generator, image: Array, boxes: Array) -> TransformList:
        """Draw from each augmentation in turn, for the image and the boxes that its predecessors leave."""
        size = (int(image.shape[0]), int(image.shape[1]))
        last = max((k for k, part in enumerate(self.augmentations) if part.needs_image), default=-1)
        drawn: list[Transform] = []
        for augmentation in self.augmentations[: last + 1]:
            transform = augmentation.draw_in(rng, image, boxes)
            image, boxes = transform.apply_image(image), transform.apply_boxes(boxes)
            drawn.append(transform)
        rest = Compose(self.augmentations[last + 1 :])
        height, width = int(image.shape[0]), int(image.shape[1])
        return TransformList([*drawn, rest.draw_around(rng, height, width, boxes)], size)


def _as_augmentation(item: Any) -> Augmentation:
    if isinstance(item, Augmentation):
        return item
    if isinstance(item, Transform):
        return fixed(item)
    if isinstance(item, torch.nn.Module):  # what torchvision's v2 transforms are
        from .torchvision import FromTorchvision

        return FromTorchvision(item)
    if hasattr(item, "as_augmentation"):
        return _as_augmentation(item.as_augmentation())
    raise ConfigError(
        f"an augmentation must be one of drivetrain.data.transforms or a torchvision v2 transform, not {item!r}"
    )
