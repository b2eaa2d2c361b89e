"""Datasets with a label for each pixel: semantic segmentation folders and COCO panoptic files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError

from .class_names import CLASSES_FILE
from .coco_entries import category_entries, category_ids, image_entries, other_sections
from .contours import mask_box
from .entry import ReadDataset
from .label_maps import read_label_map, read_panoptic_map, write_label_map, write_panoptic_map
from .sem_seg import IGNORE_LABEL
from .writing import Losses, annotation_mask, class_names, file_names, put_images

__all__ = ["write_coco_panoptic", "write_sem_seg"]

Array = np.ndarray[Any, Any]

BACKGROUND = "background"
_BACKGROUND_LABEL = 0


def write_sem_seg(folder: Path, splits: Mapping[str, ReadDataset], image_files: str) -> Losses:
    """Write ``images/SPLIT``, ``labels/SPLIT`` with label maps as PNG, and ``classes.txt``.

    Label maps are those of a semantic segmentation dataset, the classes of a panoptic one (255 where there is no
    segment), or are painted from masks: 0 for the background, then the classes, small objects over large ones, crowds
    as 255.

    Args:
        folder: exists, and is empty.
        splits: name -> dataset.
        image_files: ``"copy"``, ``"link"`` or ``"none"``.

    Returns:
        What was lost.

    Raises:
        DatasetError: no object has a mask, or there are more classes than a map can hold.
    """
    losses = Losses()
    for split, read in splits.items():
        names = file_names(read)
        put_images(read, names, folder / "images" / split, image_files)
        _check_masks(read)
        if len(class_names(read)) >= IGNORE_LABEL and not _has_maps(read):
            raise DatasetError(f"{len(class_names(read))} classes do not fit into label maps of 8 bits")
        for record, name in zip(read.records, names, strict=True):
            target = folder / "labels" / split / f"{os.path.splitext(name)[0]}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_label_map(target, _label_map(record, losses))
    first = next(iter(splits.values()))
    if first.metadata.get("stuff_classes") or not _has_maps(first):
        classes = class_names(first) if _has_pixels(first) else [BACKGROUND, *class_names(first)]
        (folder / CLASSES_FILE).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    return losses


def write_coco_panoptic(folder: Path, splits: Mapping[str, ReadDataset], image_files: str) -> Losses:
    """Write ``panoptic_SPLIT.json``, ``panoptic_SPLIT`` with PNGs, and ``images/SPLIT``.

    What a COCO file says of images and categories, its ids and its other sections are written again; of a panoptic one
    also what it says of annotations and segments.

    Segments are those of a panoptic dataset, or the masks of objects, small ones over large ones; pixels of no object
    are in no segment then.

    Args:
        folder: exists, and is empty.
        splits: name -> dataset.
        image_files: ``"copy"``, ``"link"`` or ``"none"``.

    Returns:
        What was lost.

    Raises:
        DatasetError: no object has a mask.
    """
    losses = Losses()
    for split, read in splits.items():
        names = file_names(read)
        put_images(read, names, folder / "images" / split, image_files)
        _check_masks(read)
        maps = folder / f"panoptic_{split}"
        images, category_of = image_entries(read, names), category_ids(read)
        annotations: list[dict[str, Any]] = []
        for image, record, name in zip(images, read.records, names, strict=True):
            target = maps / f"{os.path.splitext(name)[0]}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            ids, segments = _segments(record, category_of, losses)
            write_panoptic_map(target, ids)
            place = {"image_id": image["id"], "file_name": target.relative_to(maps).as_posix()}
            annotations.append({**record.get("map_entry", {}), **place, "segments_info": segments})
        sections = {"images": images, "annotations": annotations, "categories": _categories(read)}
        text = json.dumps({**other_sections(read), **sections}, separators=(",", ":"))
        (folder / f"panoptic_{split}.json").write_text(text, encoding="utf-8")
    return losses


def _has_maps(read: ReadDataset) -> bool:
    return any("sem_seg_file_name" in record for record in read.records)


def _has_pixels(read: ReadDataset) -> bool:
    """Whether every pixel has a label of its own, so that no background is added."""
    return any("sem_seg_file_name" in record or "segments_info" in record for record in read.records)


def _check_masks(read: ReadDataset) -> None:
    if _has_pixels(read) or any(a.get("segmentation") for r in read.records for a in r.get("annotations", ())):
        return
    raise DatasetError(f"no object of {read.image_root!r} has a mask, and label maps cannot be made of boxes")


def _label_map(record: Mapping[str, Any], losses: Losses) -> Array:
    if "sem_seg_file_name" in record:
        return read_label_map(record["sem_seg_file_name"])
    if "segments_info" in record:
        losses["segments' identities"] += len(record["segments_info"])
        labels = {segment["id"]: segment["category_id"] for segment in record["segments_info"]}
        ids, places = np.unique(read_panoptic_map(record["pan_seg_file_name"]), return_inverse=True)
        values = np.array([labels.get(i, IGNORE_LABEL) for i in ids.tolist()], dtype=np.uint8)
        return np.asarray(values[places].reshape(record["height"], record["width"]))
    painted = np.full((record["height"], record["width"]), _BACKGROUND_LABEL, dtype=np.uint8)
    for annotation, mask in _masks(record, losses):
        painted[mask] = IGNORE_LABEL if annotation.get("iscrowd") else annotation["category_id"] + 1
    return painted


def _segments(
    record: Mapping[str, Any], category_of: Sequence[int], losses: Losses
) -> tuple[Array, list[dict[str, Any]]]:
    """The ids of the pixels, and the segments."""
    if "segments_info" in record:
        told = [_told(segment, category_of) for segment in record["segments_info"]]
        return read_panoptic_map(record["pan_seg_file_name"]), told
    ids = np.zeros((record["height"], record["width"]), dtype=np.int32)
    annotations = []
    for number, (annotation, mask) in enumerate(_masks(record, losses), 1):
        ids[mask] = number
        annotations.append(annotation)
    segments = []
    for number, annotation in enumerate(annotations, 1):
        mask = ids == number
        if not mask.any():
            losses["objects hidden by others (left out)"] += 1
            continue
        kind = {
            "id": number,
            "category_id": category_of[annotation["category_id"]],
            "iscrowd": int(annotation.get("iscrowd", 0)),
        }
        segments.append({**kind, "bbox": list(mask_box(mask)), "area": int(mask.sum())})
    return ids, segments


def _told(segment: Mapping[str, Any], category_of: Sequence[int]) -> dict[str, Any]:
    """A segment of a panoptic dataset as the file has it."""
    kept = {key: segment[key] for key in ("id", "iscrowd", "bbox", "area") if key in segment}
    return {**segment.get("entry", {}), **kept, "category_id": category_of[segment["category_id"]]}


def _masks(record: Mapping[str, Any], losses: Losses) -> list[tuple[Mapping[str, Any], Array]]:
    """The annotations that have a mask, with it, large ones first, so that small ones are painted over them."""
    found = []
    for annotation in record.get("annotations", ()):
        mask = annotation_mask(annotation, record["height"], record["width"])
        losses["keypoints"] += any(v > 0 for v in (annotation.get("keypoints") or ())[2::3])
        if mask is None:
            losses["objects without a mask (left out)"] += 1
        else:
            found.append((annotation, np.asarray(mask)))
    return sorted(found, key=lambda pair: -int(pair[1].sum()))


def _categories(read: ReadDataset) -> list[dict[str, Any]]:
    """The classes as categories; all are things but those that the dataset knows as stuff."""
    stuff = set(read.metadata.get("stuff_dataset_id_to_contiguous_id") or {})
    return [{**entry, "isthing": int(entry["id"] not in stuff)} for entry in category_entries(read)]
