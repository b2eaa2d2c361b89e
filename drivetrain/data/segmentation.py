"""From the label maps of a dataset record to the targets of a model.

A record has ``sem_seg_file_name`` (a class for each pixel) or ``pan_seg_file_name`` with ``segments_info`` (a segment
for each pixel); see `drivetrain.data.formats.sem_seg` and `drivetrain.data.formats.coco_panoptic`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drivetrain.errors import DatasetError
from drivetrain.structures import BitMasks, Instances

from .formats.label_maps import read_label_map, read_panoptic_map
from .formats.sem_seg import IGNORE_LABEL
from .images import MAX_PIXELS, UnreadableImageError
from .moved import moved_labels
from .transforms import Transform

__all__ = ["panoptic_targets", "sem_seg_target"]

Array = np.ndarray[Any, Any]


def sem_seg_target(
    record: Mapping[str, Any],
    transform: Transform,
    *,
    ignore_label: int = IGNORE_LABEL,
    max_pixels: int = MAX_PIXELS,
) -> Tensor:
    """The class of each pixel of the transformed image, int64 (H, W).

    Args:
        record: with ``sem_seg_file_name``, or with ``pan_seg_file_name`` and ``segments_info``, whose segments then get
            their ``category_id``, crowds too.
        transform: what was done to the image.
        ignore_label: the label of pixels that are in no segment or were not in the image.
        max_pixels: a file whose header claims more pixels is not decoded.

    Raises:
        UnreadableImageError: the label map is missing, damaged, or of another size than the image.
        DatasetError: the record has no label map.
    """
    if "sem_seg_file_name" in record:
        path = record["sem_seg_file_name"]
        labels = read_label_map(path, max_pixels=max_pixels)
    elif "pan_seg_file_name" in record:
        path, segments = record["pan_seg_file_name"], _segments(record)
        classes = np.array([ignore_label, *(s["category_id"] for s in segments)], dtype=np.uint16)
        labels = classes[_segment_places(record, segments, max_pixels)]
    else:
        raise DatasetError(
            f"the record of {record.get('file_name')!r} has no 'sem_seg_file_name' and no 'pan_seg_file_name', one of "
            "which semantic segmentation needs"
        )
    _check_size(path, labels, transform)
    return moved_labels(_as_tensor(labels), transform, ignore_label)


def panoptic_targets(
    record: Mapping[str, Any],
    transform: Transform,
    *,
    things_only: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Instances:
    """The segments of the transformed image as instances; crowds and what has no pixel left are not among them.

    Args:
        record: with ``pan_seg_file_name`` and ``segments_info``.
        transform: what was done to the image.
        things_only: leave out segments of stuff (whose ``isthing`` is False).
        max_pixels: a file whose header claims more pixels is not decoded.

    Returns:
        ``gt_masks`` (`BitMasks`), ``gt_classes`` (int64) and ``gt_boxes`` (XYXY, around the masks).

    Raises:
        UnreadableImageError: the label map is missing, damaged, or of another size than the image.
        DatasetError: the record has no segments.
    """
    segments = _segments(record)
    places = _segment_places(record, segments, max_pixels)
    _check_size(record["pan_seg_file_name"], places, transform)
    moved = moved_labels(_as_tensor(places), transform, 0)
    usable = [not s.get("iscrowd", 0) and (s.get("isthing", True) or not things_only) for s in segments]
    present = set(torch.unique(moved).tolist())
    kept = [place for place, use in enumerate(usable, 1) if use and place in present]
    masks = BitMasks(moved[None] == torch.tensor(kept, dtype=torch.int64)[:, None, None])
    return Instances(
        (int(moved.shape[0]), int(moved.shape[1])),
        gt_masks=masks,
        gt_classes=torch.tensor([int(segments[place - 1]["category_id"]) for place in kept], dtype=torch.int64),
        gt_boxes=masks.get_bounding_boxes(),
    )


def _segments(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    segments: Any = record.get("segments_info")
    if "pan_seg_file_name" not in record or not isinstance(segments, Sequence):
        raise DatasetError(
            f"the record of {record.get('file_name')!r} has no 'pan_seg_file_name' with 'segments_info', which "
            "panoptic segmentation needs"
        )
    return segments


def _segment_places(record: Mapping[str, Any], segments: Sequence[Mapping[str, Any]], max_pixels: int) -> Array:
    """For each pixel 1 + the place of its segment in ``segments``, 0 for none; uint16 (height, width)."""
    ids = read_panoptic_map(record["pan_seg_file_name"], max_pixels=max_pixels)
    known = np.array([0, *(s["id"] for s in segments)], dtype=np.int64)
    order = np.argsort(known, kind="stable")
    found = np.searchsorted(known[order], ids).clip(max=len(known) - 1)
    places = order[found]
    places[known[places] != ids] = 0
    return np.asarray(places, dtype=np.uint16)


def _as_tensor(labels: Array) -> Tensor:
    """A label map of 8 or 16 bits, in a type that torch calculates with."""
    return torch.from_numpy(labels if labels.dtype == np.uint8 else labels.astype(np.int32))


def _check_size(path: str, labels: Array, transform: Transform) -> None:
    if labels.shape != tuple(transform.input_size):
        raise UnreadableImageError(
            f"label map {path!r} has {labels.shape[1]} x {labels.shape[0]} pixels (width x height), but its image has "
            f"{transform.input_size[1]} x {transform.input_size[0]}"
        )
