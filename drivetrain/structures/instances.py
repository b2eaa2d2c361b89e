"""The instances of one image: named fields of equal length, indexed together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Instances"]


class Instances:
    """N instances of one image, as fields that each hold N entries.

    A field is anything with a length and an index: a tensor, a list, Boxes, BitMasks, PolygonMasks, Keypoints.
    Fields are read and written as attributes: ``instances.gt_boxes = Boxes(...)``, ``instances.scores > 0.5``.
    Targets are ``gt_boxes`` (Boxes), ``gt_classes`` (int64), ``gt_masks``, ``gt_keypoints``; predictions are
    ``pred_boxes``, ``scores`` (float), ``pred_classes`` (int64), ``pred_masks``, ``pred_keypoints``.
    """

    _image_size: tuple[int, int]
    _fields: dict[str, Any]

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        """Start with the given fields.

        Args:
            image_size: (height, width) of the image whose pixels the fields' coordinates count.
            fields: field names and values.
        """
        object.__setattr__(self, "_image_size", image_size)
        object.__setattr__(self, "_fields", {})
        for name, value in fields.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the field ``name``; names that start with an underscore are ordinary attributes."""
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        """The field ``name``; AttributeError when there is none, naming those that exist."""
        fields = self.__dict__.get("_fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"these instances have no field {name!r}; their fields are: {', '.join(fields) or 'none'}")

    def set(self, name: str, value: Any) -> None:
        """Set the field ``name`` to ``value``.

        Raises:
            ValueError: ``value`` has another length than the fields present.
        """
        if self._fields and len(value) != len(self):
            raise ValueError(
                f"field {name!r} has {len(value)} entries, but these instances have {len(self)} (fields "
                f"present: {', '.join(self._fields)}): every field has one entry per instance"
            )
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Whether the field ``name`` exists."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Drop the field ``name``; KeyError when there is none."""
        del self._fields[name]

    def get(self, name: str) -> Any:
        """The field ``name``; KeyError when there is none."""
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Name -> value of all fields; the dictionary is the instances' own, so changing it changes them."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> Instances:
        """New instances with fields moved as by ``Tensor.to``; fields that cannot move are kept as they are."""
        moved = Instances(self._image_size)
        for name, value in self._fields.items():
            moved.set(name, value.to(*args, **kwargs) if hasattr(value, "to") else value)
        return moved

    def __getitem__(self, item: int | slice | Tensor | np.ndarray[Any, Any] | Sequence[int]) -> Instances:
        """The instances at an integer, slice, bool mask (N,) or integer indices; always Instances.

        Raises:
            IndexError: an integer beyond the length.
        """
        if isinstance(item, int):
            if not -len(self) <= item < len(self):
                raise IndexError(f"index {item} is out of range for {len(self)} instances")
            item = slice(item, item + 1 or None)
        picked = Instances(self._image_size)
        for name, value in self._fields.items():
            picked.set(name, _pick(value, item))
        return picked

    def __len__(self) -> int:
        """The number of instances, the length of every field; 0 without fields."""
        return next((len(value) for value in self._fields.values()), 0)

    def __iter__(self) -> Iterator[Instances]:
        """Each instance, as Instances of length one."""
        return (self[i] for i in range(len(self)))

    @staticmethod
    def cat(instance_lists: Sequence[Instances]) -> Instances:
        """All instances of the list in order; the image size and field names are those of the first.

        Raises:
            ValueError: the list is empty, its members differ in image size or fields, or a field does not join.
        """
        if not instance_lists:
            raise ValueError("nothing to join: the list of instances is empty")
        first = instance_lists[0]
        for other in instance_lists[1:]:
            if other.image_size != first.image_size or other._fields.keys() != first._fields.keys():
                raise ValueError(f"instances of one image and with the same fields join, but not {first} and {other}")
        joined = Instances(first.image_size)
        for name in first._fields:
            joined.set(name, _join(name, [instances.get(name) for instances in instance_lists]))
        return joined

    def __str__(self) -> str:
        """Count, image size and fields."""
        height, width = self._image_size
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        size = f"image_height={height}, image_width={width}"
        return f"Instances(num_instances={len(self)}, {size}, fields=[{fields}])"

    __repr__ = __str__


def _pick(value: Any, item: Any) -> Any:
    """``value[item]``, for lists and tuples by mask or indices as well."""
    if not isinstance(value, (list, tuple)) or isinstance(item, slice):
        return value[item]
    index = torch.as_tensor(item)
    if index.dtype == torch.bool:
        index = index.nonzero().flatten()
    return type(value)(value[i] for i in index.tolist())


def _join(name: str, values: list[Any]) -> Any:
    """One field of several instances joined along its first dimension."""
    kind = type(values[0])
    if isinstance(values[0], Tensor):
        return torch.cat(values, dim=0)
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values, axis=0)
    if isinstance(values[0], (list, tuple)):
        return kind(itertools.chain.from_iterable(values))
    if hasattr(kind, "cat"):
        return kind.cat(values)
    raise ValueError(f"field {name!r} is a {kind.__name__}, which cannot be joined: give it a classmethod 'cat'")
