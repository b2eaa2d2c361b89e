"""Datasets as COCO files: ``instances_SPLIT.json`` and ``images/SPLIT``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .coco_entries import category_entries, category_ids, image_entries, other_sections
from .entry import ReadDataset
from .writing import Losses, annotation_mask, box_xywh, file_names, put_images, segments_as_annotations

__all__ = ["write_coco"]

_KEPT = ("segmentation", "difficult")


def write_coco(folder: Path, splits: Mapping[str, ReadDataset], image_files: str) -> Losses:
    """Write every split.

    Of data that comes from COCO files all that these say of images, categories and annotations is written again, ids
    included, and so are their other sections; only the names of the images are new, boxes are cut to their images, and
    polygons are those that can be used. Other data gets the keys of the COCO format.

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
    images, ids = image_entries(read, names), category_ids(read)
    annotations: list[dict[str, Any]] = []
    for image, record in zip(images, read.records, strict=True):
        for annotation in segments_as_annotations(record, losses):
            made = _as_in_file(annotation, _annotation(annotation, record))
            place = {"image_id": image["id"], "category_id": ids[annotation["category_id"]]}
            annotations.append({"id": len(annotations) + 1, **made, **place})
    categories = category_entries(read)
    return {**other_sections(read), "images": images, "annotations": annotations, "categories": categories}


def _as_in_file(annotation: Mapping[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """What a COCO file said of an annotation, with what it left out, and what had to be corrected, as it was made."""
    entry = annotation.get("entry")
    if entry is None:
        return made
    corrected = [key for key in ("bbox", "segmentation") if key in annotation and annotation[key] != entry.get(key)]
    absent = [key for key, value in entry.items() if value is None]
    return {**made, **entry, **{key: made[key] for key in (*corrected, *absent) if key in made}}


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
