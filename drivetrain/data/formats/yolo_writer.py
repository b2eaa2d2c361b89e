"""Datasets in the form of the YOLO tools: ``data.yaml``, ``images/SPLIT`` and ``labels/SPLIT``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivetrain.config.yaml_text import dump_yaml
from drivetrain.errors import DatasetError, did_you_mean

from .entry import ReadDataset
from .writing import Losses, box_xywh, class_names, file_names, largest_outline, put_images, segments_as_annotations
from .yolo_config import YOLO_SPLITS
from .yolo_label import LabelLayout, format_label

__all__ = ["write_yolo"]


def write_yolo(folder: Path, splits: Mapping[str, ReadDataset], image_files: str) -> Losses:
    """Write every split. Objects with a mask get their outline, or, where the dataset has keypoints, these.

    Args:
        folder: exists, and is empty.
        splits: ``"train"``, ``"val"`` or ``"test"`` -> dataset.
        image_files: ``"copy"``, ``"link"`` or ``"none"``.

    Returns:
        What was lost.

    Raises:
        DatasetError: a split has another name.
    """
    for split in splits:
        if split not in YOLO_SPLITS:
            hint = did_you_mean(split, YOLO_SPLITS) or ": name one as train=DATASET"
            raise DatasetError(f"YOLO data has the splits {', '.join(YOLO_SPLITS)}, not {split!r}{hint}")
    losses = Losses()
    for split, read in splits.items():
        names = file_names(read)
        put_images(read, names, folder / "images" / split, image_files)
        points = read.metadata.get("keypoint_names")
        layout = LabelLayout(len(class_names(read)), (len(points), 3) if points else None)
        for record, name in zip(read.records, names, strict=True):
            target = folder / "labels" / split / f"{os.path.splitext(name)[0]}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(f"{line}\n" for line in _lines(record, layout, losses)), encoding="utf-8")
    first = next(iter(splits.values()))
    content = {split: f"images/{split}" for split in splits} | _names(first)
    (folder / "data.yaml").write_text(dump_yaml(content), encoding="utf-8")
    return losses


def _lines(record: Mapping[str, Any], layout: LabelLayout, losses: Losses) -> list[str]:
    height, width = int(record["height"]), int(record["width"])
    lines = []
    for annotation in segments_as_annotations(record, losses):
        if annotation.get("iscrowd"):
            losses["crowd regions (left out)"] += 1
            continue
        losses["the mark 'difficult'"] += int(annotation.get("difficult", 0))
        more: dict[str, Any] = {}
        if layout.keypoints is not None:
            more["keypoints"] = annotation.get("keypoints")
            losses["masks, as there are keypoints"] += bool(annotation.get("segmentation"))
        elif annotation.get("segmentation"):
            outline, has_more = largest_outline(annotation, height, width)
            losses["parts and holes of masks (one outline each)"] += has_more
            more["segmentation"] = [outline] if outline else None
        lines.append(format_label(annotation["category_id"], height, width, box_xywh(annotation), more, layout))
    return lines


def _names(read: ReadDataset) -> dict[str, Any]:
    content: dict[str, Any] = {"names": dict(enumerate(class_names(read)))}
    points = list(read.metadata.get("keypoint_names") or ())
    if points:
        other = {a: b for pair in read.metadata.get("keypoint_flip_map") or () for a, b in (pair, pair[::-1])}
        content["kpt_shape"] = [len(points), 3]
        content["flip_idx"] = [points.index(other.get(name, name)) for name in points]
        content["kpt_names"] = dict.fromkeys(content["names"], points)
    return content
