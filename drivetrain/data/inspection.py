"""What is in a dataset: how many images and objects of which class, their sizes, and what appears twice."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .formats.defects import DefectReport
from .formats.entry import ReadDataset
from .formats.folder_files import image_size
from .formats.label_maps import read_label_map
from .formats.sem_seg import spread_sample
from .formats.writing import box_xywh
from .images import UnreadableImageError

__all__ = ["ClassRow", "Inspection", "check_image_files", "duplicate_images", "inspect_dataset"]

Array = np.ndarray[Any, Any]
Record = Mapping[str, Any]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SMALL, MEDIUM = 32**2, 96**2
"""Areas in pixels below which COCO counts an object as small, and as medium."""

_MOST_SIZES = 10
_MOST_NAMES = 20
_CHUNK = 1 << 20


@dataclass
class ClassRow:
    """One class.

    Attributes:
        name: its name.
        objects: how many objects (segments, images of a classification set) are of it.
        images: in how many images it is.
        share: of all objects; of a semantic segmentation set, of all labelled pixels.
    """

    name: str
    objects: int = 0
    images: int = 0
    share: float = 0.0


@dataclass
class Inspection:
    """What is in a dataset. Quantiles are those of 0, 5, 25, 50, 75, 95 and 100 percent.

    Attributes:
        images: how many.
        objects: how many, crowds included.
        crowds: how many of these are crowds.
        masks: how many objects have an outline or a mask.
        keypoints: how many objects have a keypoint that is labelled.
        classes: one row for each class.
        label_maps: how many label maps were read for the classes of a semantic segmentation set.
        box_sides: quantiles of the square root of the boxes' areas, in pixels.
        box_shares: quantiles of the boxes' areas as shares of the image.
        aspect_ratios: quantiles of the boxes' width / height.
        box_scales: how many boxes are small, medium and large by COCO's areas.
        image_sizes: ((width, height), how many) of the commonest sizes of images.
        more_sizes: how many sizes there are beside these.
        empty: how many images have no object.
        empty_examples: the names of some of them.
        repeated_objects: how many objects have the class and the box of an earlier one of the same image.
        repeated_images: groups of files with the same content.
    """

    images: int
    objects: int = 0
    crowds: int = 0
    masks: int = 0
    keypoints: int = 0
    classes: list[ClassRow] = field(default_factory=list)
    label_maps: int = 0
    box_sides: list[float] = field(default_factory=list)
    box_shares: list[float] = field(default_factory=list)
    aspect_ratios: list[float] = field(default_factory=list)
    box_scales: dict[str, int] = field(default_factory=dict)
    image_sizes: list[tuple[tuple[int, int], int]] = field(default_factory=list)
    more_sizes: int = 0
    empty: int = 0
    empty_examples: list[str] = field(default_factory=list)
    repeated_objects: int = 0
    repeated_images: list[list[str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)


def inspect_dataset(read: ReadDataset, *, most_maps: int = 2000) -> Inspection:
    """Count what is in a dataset.

    Args:
        read: its records and metadata; of any task.
        most_maps: of how many label maps the pixels are counted at most; they are spread evenly over the records.
    """
    records = read.records
    found = Inspection(len(records))
    sizes = Counter((int(r["width"]), int(r["height"])) for r in records)
    found.image_sizes = sizes.most_common(_MOST_SIZES)
    found.more_sizes = max(0, len(sizes) - _MOST_SIZES)
    names = list(read.metadata.get("thing_classes") or read.metadata.get("stuff_classes") or ())
    if any("sem_seg_file_name" in r for r in records):
        _count_pixels(found, records, names, read.metadata.get("ignore_label"), most_maps)
    elif any("class_id" in r for r in records):
        _count_images(found, records, names)
    else:
        _count_objects(found, records, names)
    return found


def check_image_files(records: Sequence[Record], report: DefectReport) -> None:
    """Report image files that cannot be opened or are of another size than their record says, by their headers."""
    for record in records:
        path = record["file_name"]
        try:
            height, width = image_size(path)
        except UnreadableImageError as err:
            report.error("unreadable image", str(err))
            continue
        if (height, width) != (record["height"], record["width"]):
            text = f"has {width} x {height} pixels, but the dataset says {record['width']} x {record['height']}"
            report.error("size of image", text, repr(path))


def duplicate_images(records: Sequence[Record]) -> list[list[str]]:
    """Groups of image files with the same content, byte by byte; only files of the same size are read."""
    by_size: defaultdict[int, list[str]] = defaultdict(list)
    for path in dict.fromkeys(record["file_name"] for record in records):
        if os.path.isfile(path):
            by_size[os.path.getsize(path)].append(path)
    by_content: defaultdict[str, list[str]] = defaultdict(list)
    for paths in by_size.values():
        for path in paths if len(paths) > 1 else ():
            by_content[_digest(path)].append(path)
    return sorted(group for group in by_content.values() if len(group) > 1)


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _count_objects(found: Inspection, records: Sequence[Record], names: list[str]) -> None:
    """Boxes of annotations, or of panoptic segments."""
    objects, in_images = Counter[int](), Counter[int]()
    boxes: list[Any] = []
    areas: list[float] = []
    for record in records:
        items = record.get("annotations", record.get("segments_info", ()))
        labels = [int(item["category_id"]) for item in items]
        objects.update(labels)
        in_images.update(set(labels))
        found.crowds += sum(bool(item.get("iscrowd")) for item in items)
        found.masks += sum(bool(item.get("segmentation")) or "segments_info" in record for item in items)
        found.keypoints += sum(any(v > 0 for v in (item.get("keypoints") or ())[2::3]) for item in items)
        placed = [(int(item["category_id"]), *box_xywh(item)) for item in items if item.get("bbox")]
        found.repeated_objects += len(placed) - len(set(placed))
        boxes += [box for _, *box in placed]
        areas += [float(record["width"] * record["height"])] * len(placed)
        if not items:
            _note_empty(found, record)
    found.objects = sum(objects.values())
    found.classes = _rows(names, objects, in_images)
    if boxes:
        _measure(found, np.array(boxes, dtype=np.float64), np.array(areas))


def _measure(found: Inspection, boxes: Array, image_areas: Array) -> None:
    """Sizes and shapes of XYWH boxes (N, 4)."""
    widths, heights = np.maximum(boxes[:, 2], 1e-9), np.maximum(boxes[:, 3], 1e-9)
    areas = widths * heights
    found.box_sides = _quantiles(np.sqrt(areas))
    found.box_shares = _quantiles(areas / image_areas)
    found.aspect_ratios = _quantiles(widths / heights)
    small, medium = int((areas < SMALL).sum()), int(((areas >= SMALL) & (areas < MEDIUM)).sum())
    found.box_scales = {"small": small, "medium": medium, "large": len(areas) - small - medium}


def _count_images(found: Inspection, records: Sequence[Record], names: list[str]) -> None:
    labels = Counter(int(record["class_id"]) for record in records)
    found.classes = _rows(names, labels, labels)


def _count_pixels(
    found: Inspection, records: Sequence[Record], names: list[str], ignore_label: int | None, most: int
) -> None:
    """Pixels of each class; those of the ignored label do not count."""
    pixels, in_images = Counter[int](), Counter[int]()
    for record in spread_sample(records, most):
        try:
            counts = np.bincount(read_label_map(record["sem_seg_file_name"]).ravel())
        except UnreadableImageError:  # the report has it
            continue
        present = [label for label in np.flatnonzero(counts).tolist() if label != ignore_label]
        pixels.update({label: int(counts[label]) for label in present})
        in_images.update(present)
        found.label_maps += 1
        if not present:
            _note_empty(found, record)
    found.classes = _rows(names, pixels, in_images)
    for row in found.classes:
        row.objects = 0


def _rows(names: list[str], counts: Counter[int], in_images: Counter[int]) -> list[ClassRow]:
    """One row for each class, known by name or by its number alone."""
    total = max(sum(counts.values()), 1)
    highest = max(counts, default=-1)
    labels = range(max(len(names), highest + 1)) if names or highest < 1000 else sorted(counts)
    return [
        ClassRow(names[i] if i < len(names) else f"class {i}", counts[i], in_images[i], counts[i] / total)
        for i in labels
    ]


def _note_empty(found: Inspection, record: Record) -> None:
    found.empty += 1
    if len(found.empty_examples) < _MOST_NAMES:
        found.empty_examples.append(record["file_name"])


def _quantiles(values: Array) -> list[float]:
    return [float(v) for v in np.quantile(values, QUANTILES)]
