"""What the writers of all formats share: names, boxes, outlines and masks of records, and what is lost on the way."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError, OutputError
from drivetrain.structures import BoxMode, polygons_to_bitmask, rle_to_bitmask

from .contours import mask_polygons
from .entry import ReadDataset
from .new_folder import put_image

__all__ = [
    "Losses",
    "annotation_mask",
    "box_xywh",
    "class_names",
    "file_names",
    "largest_outline",
    "put_images",
    "segments_as_annotations",
]

Annotation = Mapping[str, Any]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
Losses = Counter[str]
"""What a format cannot hold -> how many objects lost it."""


def class_names(read: ReadDataset) -> list[str]:
    """The names of a dataset's classes.

    Raises:
        DatasetError: it has none.
    """
    names = read.metadata.get("thing_classes") or read.metadata.get("stuff_classes")
    if not names:
        raise DatasetError(f"the classes of {read.image_root!r} have no names; give them with --classes")
    return list(names)


def box_xywh(annotation: Annotation) -> list[float]:
    """An annotation's box as x, y, width, height in pixels."""
    x, y, third, fourth = (float(v) for v in annotation["bbox"])
    if annotation.get("bbox_mode", BoxMode.XYWH_ABS) == BoxMode.XYXY_ABS:
        return [x, y, third - x, fourth - y]
    return [x, y, third, fourth]


def annotation_mask(annotation: Annotation, height: int, width: int) -> BoolArray | None:
    """The pixels of an annotation, bool (height, width); None without a segmentation."""
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return None
    if isinstance(segmentation, Mapping):
        return rle_to_bitmask(segmentation)
    return polygons_to_bitmask(segmentation, height, width)


def largest_outline(annotation: Annotation, height: int, width: int) -> tuple[list[float], bool]:
    """The polygon of an annotation that encloses the largest area, and whether there are others.

    Of a mask in run lengths it is the outline, along the edges of its pixels.
    """
    segmentation = annotation.get("segmentation") or []
    if isinstance(segmentation, Mapping):
        polygons: Sequence[Sequence[float]] = mask_polygons(rle_to_bitmask(segmentation))
    else:
        polygons = segmentation
    if not polygons:
        return [], False
    largest = max(polygons, key=_enclosed)
    return [float(v) for v in largest], len(polygons) > 1


def segments_as_annotations(record: Mapping[str, Any], losses: Losses) -> list[dict[str, Any]]:
    """The annotations of a record; of a panoptic one its things, each with the run lengths of its mask."""
    if "segments_info" not in record:
        return list(record.get("annotations", ()))
    from drivetrain.structures import bitmask_to_rle

    from .contours import mask_box
    from .label_maps import read_panoptic_map

    ids = read_panoptic_map(record["pan_seg_file_name"])
    made = []
    for segment in record["segments_info"]:
        mask = ids == segment["id"]
        if not segment["isthing"]:
            losses["segments of stuff"] += 1
        elif mask.any():
            place = {"bbox": list(mask_box(mask)), "bbox_mode": BoxMode.XYWH_ABS, "area": int(mask.sum())}
            kind = {"category_id": segment["category_id"], "iscrowd": segment["iscrowd"]}
            made.append({**place, **kind, "segmentation": bitmask_to_rle(mask)})
    return made


def file_names(read: ReadDataset, *, flat: bool = False) -> list[str]:
    """A name for each image, below one folder; no two have the same stem.

    The names are those inside the folder that holds all of them. Of names that differ in their suffix alone, those
    after the first get it into their stem.

    Args:
        read: the dataset.
        flat: put folders' names into the file's name, so that all lie in one folder.

    Raises:
        OutputError: an image is in the dataset twice.
    """
    names = [os.path.relpath(record["file_name"], read.image_root).replace(os.sep, "/") for record in read.records]
    folders = [os.path.dirname(name) for name in names]
    common = os.path.commonpath(folders) if folders and all(folders) else ""
    if common:
        names = [name[len(common) + 1 :] for name in names]
    taken: dict[str, str] = {}
    result = []
    for name in names:
        stem, suffix = os.path.splitext(name.replace("/", "_") if flat else name)
        if stem in taken:
            stem = f"{stem}_{suffix[1:]}"
        if stem in taken:
            raise OutputError(
                f"the images {taken[stem]!r} and {name!r} of {read.image_root!r} would have one name: an image may be "
                "in a dataset only once"
            )
        taken[stem] = name
        result.append(stem + suffix)
    return result


def put_images(read: ReadDataset, names: Sequence[str], folder: Path, how: str) -> None:
    """Copy or link the images of a dataset into a folder, which is made; see `put_image`."""
    folder.mkdir(parents=True, exist_ok=True)
    for record, name in zip(read.records, names, strict=True):
        put_image(record["file_name"], folder / name, how)


def _enclosed(polygon: Sequence[float]) -> float:
    x, y = np.array(polygon[0::2], dtype=np.float64), np.array(polygon[1::2], dtype=np.float64)
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
