"""Datasets as COCO files: ``instances_SPLIT.json`` and ``images/SPLIT``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .entry import ReadDataset
from .writing import Losses, annotation_mask, box_xywh, class_names, file_names, put_images, segments_as_annotations

__all__ = ["write_coco"]

_KEPT = ("segmentation", "difficult")


def write_coco(folder: Path, splits: Mapping[str, ReadDataset], image_files: str) -> Losses:
    """Write every split.

    Args:
        folder: exists, and is empty.
        splits: name -> dataset.
        image_files: ``"copy"``, ``"link"`` or ``"none"``; with the last, the names in the file are those inside each
            dataset's ``image_root``.

    Returns:
        What was lost.
    """
    losses = Losses()
    for split, read in splits.items():
        names = file_names(read)
        if image_files == "none":
            names = [str(Path(r["file_name"]).relative_to(read.image_root).as_posix()) for r in read.records]
        else:
            put_images(read, names, folder / "images" / split, image_files)
        content = _content(read, names, losses)
        (folder / f"instances_{split}.json").write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
    return losses


def _content(read: ReadDataset, names: list[str], losses: Losses) -> dict[str, Any]:
    categories = _categories(read)
    ids = [category["id"] for category in categories]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record, name in zip(_image_ids(read), read.records, names, strict=True):
        size = {"width": record["width"], "height": record["height"]}
        images.append({"id": image_id, "file_name": name, **size})
        for annotation in segments_as_annotations(record, losses):
            made = _annotation(annotation, record)
            place = {"id": len(annotations) + 1, "image_id": image_id, "category_id": ids[annotation["category_id"]]}
            annotations.append({**place, **made})
    return {"images": images, "annotations": annotations, "categories": categories}


def _categories(read: ReadDataset) -> list[dict[str, Any]]:
    """The classes under their own category ids, where they had any, else 1, 2, ..."""
    names = class_names(read)
    known = read.metadata.get("thing_dataset_id_to_contiguous_id") or {}
    known = {**known, **(read.metadata.get("stuff_dataset_id_to_contiguous_id") or {})}
    id_of = {label: key for key, label in known.items()}
    if sorted(id_of) != list(range(len(names))):
        id_of = {label: label + 1 for label in range(len(names))}
    shared: dict[str, Any] = {}
    if read.metadata.get("keypoint_names"):
        shared["keypoints"] = list(read.metadata["keypoint_names"])
        shared["keypoint_flip_map"] = [list(pair) for pair in read.metadata.get("keypoint_flip_map") or ()]
    return [{"id": id_of[label], "name": name, **shared} for label, name in enumerate(names)]


def _image_ids(read: ReadDataset) -> list[int]:
    """The records' own ids where all are whole numbers, else 1, 2, ..."""
    ids = [record.get("image_id") for record in read.records]
    if all(type(i) is int for i in ids) and len(set(ids)) == len(ids):
        return [int(i) for i in ids if i is not None]
    return list(range(1, len(ids) + 1))


def _annotation(annotation: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    box = [_plain(v) for v in box_xywh(annotation)]
    made: dict[str, Any] = {"bbox": box, "iscrowd": int(annotation.get("iscrowd", 0))}
    area = annotation.get("area")
    if area is None:
        mask = annotation_mask(annotation, record["height"], record["width"])
        area = int(mask.sum()) if mask is not None else _plain(box[2] * box[3])
    made["area"] = area
    made |= {key: annotation[key] for key in _KEPT if key in annotation}
    points = annotation.get("keypoints")
    if points:
        made["keypoints"] = [value for i in range(0, len(points), 3) for value in _keypoint(*points[i : i + 3])]
        made["num_keypoints"] = sum(v > 0 for v in points[2::3])
    return made


def _keypoint(x: float, y: float, visibility: float) -> tuple[float, float, float]:
    """A keypoint as files have it: records measure from the image's corner, files count pixels."""
    if visibility == 0:
        return 0, 0, 0
    return _plain(x - 0.5), _plain(y - 0.5), _plain(visibility)


def _plain(value: float) -> float | int:
    """A number as short as it can be written without losing anything that can be seen."""
    rounded = round(float(value), 6)
    return int(rounded) if rounded.is_integer() else rounded
