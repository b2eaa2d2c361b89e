"""What models learn from, read from a batch and checked: objects, label maps and class numbers."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from drivetrain.errors import ModelError
from drivetrain.structures import Instances

from .contract import Batch

__all__ = ["IGNORE_LABEL", "boxes_within", "class_ids", "label_map", "objects"]

IGNORE_LABEL = 255
"""Pixels of a label map that have this value count nowhere."""


def objects(
    entry: dict[str, Any], num_classes: int, shape: str = "gt_boxes", *, key: str = "MODEL.NUM_CLASSES"
) -> Instances:
    """The ``instances`` of an entry of a batch, as they are, checked.

    Args:
        entry: of a batch.
        num_classes: the ``gt_classes`` are smaller; looked at where that waits for no device.
        shape: the field they have beside ``gt_classes``: ``"gt_boxes"`` or ``"gt_masks"``.
        key: that of the config for the number of classes, for the message.

    Raises:
        ModelError: there are none, without one of the two fields, or of other classes; the message names the file.
    """
    instances = entry.get("instances")
    name = entry.get("file_name", "an image")
    if not isinstance(instances, Instances) or not (instances.has(shape) and instances.has("gt_classes")):
        raise ModelError(
            f"in training every entry of a batch has 'instances' with {shape} and gt_classes, but that of {name} has "
            f"{instances!r}: annotate the dataset with {shape.removeprefix('gt_')} and have MODEL.TARGETS name them"
        )
    _check_classes(instances.gt_classes, num_classes, name, key)
    return instances


def boxes_within(size: tuple[int, int], instances: Instances, device: torch.device) -> Tensor:
    """The ``gt_boxes`` of instances in pixels of an image of (height, width) ``size``: XYXY, (N, 4), on a device."""
    boxes: Tensor = instances.gt_boxes.tensor.to(device, non_blocking=True)
    height, width = instances.image_size
    if (height, width) == tuple(size):
        return boxes
    return boxes * boxes.new_tensor((size[1] / width, size[0] / height) * 2)


def _check_classes(classes: Tensor, num_classes: int, name: str, key: str = "MODEL.NUM_CLASSES") -> None:
    """ModelError if classes on the CPU are not from 0 to ``num_classes - 1``."""
    if classes.device.type != "cpu" or not classes.numel():
        return
    if not 0 <= int(classes.min()) <= int(classes.max()) < num_classes:
        raise ModelError(
            f"{name} has classes {sorted(set(classes.tolist()))}, but the model has {num_classes}, numbered from 0: "
            f"set {key} to the dataset's number of classes"
        )


def label_map(
    entry: dict[str, Any], size: tuple[int, int], num_classes: int, ignore_label: int = IGNORE_LABEL
) -> Tensor:
    """The ``sem_seg`` of an entry of a batch, as it is, checked.

    Args:
        entry: of a batch.
        size: (height, width) of its image.
        num_classes: the labels are smaller, or ``ignore_label``; looked at where that waits for no device.
        ignore_label: the label of pixels that do not count.

    Raises:
        ModelError: there is none, of another size, or with other labels; the message names the file.
    """
    labels = entry.get("sem_seg")
    name = entry.get("file_name", "an image")
    if not isinstance(labels, Tensor) or labels.is_floating_point() or tuple(labels.shape) != tuple(size):
        received = f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else repr(labels)
        raise ModelError(
            f"in training every entry of a batch has 'sem_seg', the class of each pixel as whole numbers of shape "
            f"{tuple(size)}, its image's, but that of {name} is {received}"
        )
    if labels.device.type == "cpu":
        wrong = labels[((labels >= num_classes) | (labels < 0)) & (labels != ignore_label)]
        if len(wrong):
            raise ModelError(
                f"the label map of {name} has the labels {torch.unique(wrong).tolist()}, but the model has "
                f"{num_classes} classes, numbered from 0 ({ignore_label} is ignored): set MODEL.NUM_CLASSES to the "
                "dataset's number of classes, or correct the map"
            )
    return labels


def class_ids(batch: Batch, num_classes: int) -> Tensor:
    """The ``class_id`` of every entry of a batch, int64, shape (N,), on the CPU.

    Raises:
        ModelError: an entry has none, or one that is not from 0 to ``num_classes - 1``; the message names the file.
    """
    found = []
    for entry in batch:
        number = entry.get("class_id")
        if isinstance(number, Tensor) and number.numel() == 1:
            number = number.item()
        if isinstance(number, bool) or not isinstance(number, Integral) or not 0 <= int(number) < num_classes:
            raise ModelError(
                f"in training every entry of a batch has 'class_id', here 0 to {num_classes - 1}, but that of "
                f"{entry.get('file_name', 'an image')} is {entry.get('class_id')!r}: set MODEL.NUM_CLASSES to the "
                "dataset's number of classes, or correct the dataset"
            )
        found.append(int(number))
    return torch.tensor(found, dtype=torch.int64)
