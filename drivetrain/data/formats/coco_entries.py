"""Entries of COCO files to be written: all that such a file said of an image or a category stays with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .entry import ReadDataset
from .writing import class_names

__all__ = ["category_entries", "category_ids", "image_entries", "other_sections"]

_WRITTEN = ("images", "annotations", "categories")


def image_entries(read: ReadDataset, names: list[str]) -> list[dict[str, Any]]:
    """The entries of ``images``, one for each record: its own where it has one, with the file name that is written.

    Ids are the records' own where they come from a COCO file or are all whole numbers, else 1, 2, ...
    """
    ids: list[Any] = [record.get("image_id") for record in read.records]
    from_coco = all("entry" in record for record in read.records)
    if not from_coco and (not all(type(i) is int for i in ids) or len(set(ids)) < len(ids)):
        ids = list(range(1, len(ids) + 1))
    rows = zip(ids, read.records, names, strict=True)
    return [{**r.get("entry", {}), "id": i, "file_name": name, **_size(r)} for i, r, name in rows]


def category_entries(read: ReadDataset) -> list[dict[str, Any]]:
    """The entries of ``categories``: those of the file where there was one, else one for each class, in order.

    Raises:
        DatasetError: the classes have no names.
    """
    if read.sections.get("categories"):
        return [dict(entry) for entry in read.sections["categories"]]
    shared: dict[str, Any] = {}
    if read.metadata.get("keypoint_names"):
        shared["keypoints"] = list(read.metadata["keypoint_names"])
        shared["keypoint_flip_map"] = [list(pair) for pair in read.metadata.get("keypoint_flip_map") or ()]
    names = class_names(read)
    return [{"id": i, "name": name, **shared} for i, name in zip(category_ids(read), names, strict=True)]


def category_ids(read: ReadDataset) -> list[int]:
    """The category id of each class: the one that it has in the files, where all have one, else 1, 2, ..."""
    count = len(class_names(read))
    known = read.metadata.get("thing_dataset_id_to_contiguous_id") or {}
    known = {**known, **(read.metadata.get("stuff_dataset_id_to_contiguous_id") or {})}
    id_of = {label: key for key, label in known.items()}
    if sorted(id_of) != list(range(count)):
        return list(range(1, count + 1))
    return [id_of[label] for label in range(count)]


def other_sections(read: ReadDataset) -> dict[str, Any]:
    """What the file held beside images, annotations and categories, as ``info`` and ``licenses``."""
    return {name: value for name, value in read.sections.items() if name not in _WRITTEN}


def _size(record: Mapping[str, Any]) -> dict[str, int]:
    return {"width": record["width"], "height": record["height"]}
