"""detectron2's kind of transform, and how it goes together with this package's.

A transform of detectron2 takes arrays (H, W, C) or (H, W) of any size and dtype, and knows nothing of the size that an
image has before and after it. A `drivetrain.data.transforms.Transform` knows both; `Sized` makes one of the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.data import transforms as native
from drivetrain.errors import ConfigError

__all__ = ["NoOpTransform", "Sized", "Transform", "TransformList", "is_mirrored"]

Array = np.ndarray[Any, Any]
Size = tuple[int, int]


class Transform(ABC):
    """A deterministic change of an image and of what lies on it: subclass it, and define at least the two methods."""

    def _set_attributes(self, params: Mapping[str, Any] | None = None) -> None:
        """Keep the arguments of a constructor, ``self._set_attributes(locals())``, as attributes."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    @abstractmethod
    def apply_image(self, img: Array) -> Array:
        """The transformed image; (H, W, C) or (H, W) in and out."""

    @abstractmethod
    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2), x and y in pixels, after the transform."""

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The transformed label map or mask (H, W): like an image, unless a subclass knows better."""
        return self.apply_image(segmentation)

    def apply_box(self, box: Any) -> Array:
        """The boxes (N, 4), x0, y0, x1, y1, around the transformed corners; not clipped to the image."""
        corners = np.asarray(box).reshape(-1, 4)[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 2)
        moved = self.apply_coords(corners).reshape(-1, 4, 2)
        return np.concatenate((moved.min(axis=1), moved.max(axis=1)), axis=1)

    def apply_polygons(self, polygons: Iterable[Any]) -> list[Array]:
        """One instance's polygons, points (N, 2) each, after the transform."""
        return [self.apply_coords(np.asarray(p)) for p in polygons]

    def inverse(self) -> Transform:
        """The transform that undoes the geometry of this one.

        Raises:
            NotImplementedError: it has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    @classmethod
    def register_type(cls, data_type: str, func: Callable[..., Any] | None = None) -> Any:
        """Add a method ``apply_<data_type>`` that calls ``func(transform, data)``; without ``func``, a decorator."""
        if func is None:
            return lambda decorated: cls.register_type(data_type, decorated) or decorated
        setattr(cls, f"apply_{data_type}", func)
        return None

    def as_augmentation(self) -> native.Augmentation:
        """The augmentation that always does this, for lists of them."""
        from .transforms_input import always

        return always(self)

    def __add__(self, other: Transform) -> TransformList:
        """This transform, then ``other``."""
        return TransformList([self, other])

    def __repr__(self) -> str:
        """The class and its public attributes."""
        shown = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({shown})"


class NoOpTransform(Transform):
    """Changes nothing, whatever the type of data."""

    def __getattr__(self, name: str) -> Any:
        """A method ``apply_...`` of a type that was registered with another transform."""
        if not name.startswith("apply_"):
            raise AttributeError(f"NoOpTransform has no attribute {name!r}")
        return lambda data: data

    def apply_image(self, img: Array) -> Array:
        """The image as it is."""
        return img

    def apply_coords(self, coords: Array) -> Array:
        """The points as they are."""
        return coords

    def inverse(self) -> Transform:
        """The same."""
        return self


class TransformList(Transform):
    """Several transforms, one after the other; lists in the list give way to their parts.

    Every method ``apply_...`` is that of the parts in turn, also one that only the parts have.

    Attributes:
        transforms: the list.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        """Chain ``transforms``.

        Raises:
            TypeError: one of them is no `Transform`.
        """
        self.transforms: list[Transform] = []
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise TypeError(f"a TransformList holds transforms, not {transform!r}")
            self.transforms += transform.transforms if isinstance(transform, TransformList) else [transform]

    def _chained(self, name: str, value: Any) -> Any:
        for transform in self.transforms:
            value = getattr(transform, name)(value)
        return value

    def __getattr__(self, name: str) -> Any:
        """A method ``apply_...`` of the parts."""
        if not name.startswith("apply_"):
            raise AttributeError(f"TransformList has no attribute {name!r}")
        return lambda value: self._chained(name, value)

    def apply_image(self, img: Array) -> Array:
        """The image after all of them."""
        return self._chained("apply_image", img)  # type: ignore[no-any-return]

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2) after all of them."""
        return self._chained("apply_coords", coords)  # type: ignore[no-any-return]

    def apply_segmentation(self, segmentation: Array) -> Array:
        """The label map (H, W) after all of them."""
        return self._chained("apply_segmentation", segmentation)  # type: ignore[no-any-return]

    def apply_box(self, box: Any) -> Array:
        """The boxes (N, 4), x0, y0, x1, y1, after all of them."""
        return self._chained("apply_box", np.asarray(box).reshape(-1, 4))  # type: ignore[no-any-return]

    def apply_polygons(self, polygons: Iterable[Any]) -> list[Array]:
        """One instance's polygons, points (N, 2) each, after all of them."""
        return self._chained("apply_polygons", list(polygons))  # type: ignore[no-any-return]

    def inverse(self) -> Transform:
        """The inverses, last first."""
        return TransformList([t.inverse() for t in reversed(self.transforms)])

    def __add__(self, other: Transform) -> TransformList:
        """This list, then ``other``."""
        return TransformList([*self.transforms, other])

    def __radd__(self, other: Transform) -> TransformList:
        """``other``, then this list."""
        return TransformList([other, *self.transforms])

    def __len__(self) -> int:
        """The number of transforms."""
        return len(self.transforms)

    def __getitem__(self, index: int) -> Transform:
        """One of them."""
        return self.transforms[index]

    def __iter__(self) -> Iterator[Transform]:
        """Each of them."""
        return iter(self.transforms)


def is_mirrored(transform: Transform) -> bool:
    """Whether left and right are exchanged in the end, by an odd number of parts that have ``mirrored`` set."""
    parts = transform.transforms if isinstance(transform, TransformList) else [transform]
    return sum(bool(getattr(part, "mirrored", False)) for part in parts) % 2 == 1


class Sized(native.Transform):
    """A transform of detectron2's kind for images of a known size: what this package's mapper takes.

    Attributes:
        transform: the one that does the work.
    """

    def __init__(self, transform: Transform, input_size: Size, output_size: Size | None = None) -> None:
        """Make ``transform`` one of images of (height, width) ``input_size`` to ``output_size`` (None: the same)."""
        super().__init__(input_size, output_size)
        self.transform = transform
        self.mirrored = is_mirrored(transform)

    def _image(self, image: Tensor) -> Tensor:
        moved = self.transform.apply_image(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        if moved.shape[:2] != tuple(self.output_size):
            raise ConfigError(
                f"{self.transform!r} made an image of height x width {moved.shape[0]} x {moved.shape[1]}, but "
                f"{self.output_size[0]} x {self.output_size[1]} when it was drawn: it must do the same every time"
            )
        plain = moved[:, :, np.newaxis] if moved.ndim == 2 else moved
        return torch.from_numpy(np.ascontiguousarray(plain)).permute(2, 0, 1)

    def _mask(self, masks: Tensor) -> Tensor:
        moved = [self.transform.apply_segmentation(mask) for mask in masks.numpy()]
        stack = np.stack(moved) if moved else np.zeros((0, *self.output_size), dtype=np.uint8)
        return torch.from_numpy(stack.astype(np.uint8))

    def apply_coords(self, coords: Array) -> Array:
        """The points (N, 2) after the transform."""
        return np.asarray(self.transform.apply_coords(np.array(coords)))

    def apply_boxes(self, boxes: Array) -> Array:
        """The boxes (N, 4), x0, y0, x1, y1, after the transform; not clipped to the image."""
        return np.asarray(self.transform.apply_box(np.array(boxes))) if len(boxes) else np.array(boxes)

    def apply_polygons(self, polygons: Sequence[Array | Sequence[float]]) -> list[Array]:
        """One instance's polygons, each [x0, y0, x1, y1, ...], as flat float64 arrays."""
        points = [np.array(p, dtype=np.float64).reshape(-1, 2) for p in polygons]
        return [np.asarray(p, dtype=np.float64).reshape(-1) for p in self.transform.apply_polygons(points)]
