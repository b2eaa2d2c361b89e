"""Datasets from one format to another."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drivetrain.errors import DatasetError, did_you_mean

from .formats.coco_writer import write_coco
from .formats.defects import DefectReport
from .formats.entry import ReadDataset
from .formats.image_folder_writer import write_image_folder
from .formats.map_writers import write_coco_panoptic, write_sem_seg
from .formats.new_folder import IMAGE_FILES, new_folder
from .formats.sources import Source, read_source
from .formats.voc_writer import write_voc
from .formats.writing import Losses, class_names
from .formats.yolo_writer import write_yolo

__all__ = ["TARGETS", "Conversion", "convert", "read_splits", "write_dataset"]

Writer = Callable[[Path, Mapping[str, ReadDataset], str], Losses]

_OBJECTS = ("coco", "voc", "yolo", "coco_panoptic")
_WRITERS: Mapping[str, tuple[Writer, tuple[str, ...]]] = {
    "coco": (write_coco, _OBJECTS),
    "voc": (write_voc, _OBJECTS),
    "yolo": (write_yolo, _OBJECTS),
    "sem_seg": (write_sem_seg, ("coco", "yolo", "coco_panoptic", "sem_seg")),
    "coco_panoptic": (write_coco_panoptic, ("coco", "yolo", "coco_panoptic")),
    "folder": (write_image_folder, ("folder",)),
}
"""Format -> how it is written, and the formats that have the information it needs."""

TARGETS = tuple(_WRITERS)
"""The formats that can be written."""


@dataclass
class Conversion:
    """What was written.

    Attributes:
        folder: where.
        images: split -> number of images.
        losses: what the format cannot hold -> number of objects that lost it.
        reports: split -> what is wrong with the source.
    """

    folder: str
    images: dict[str, int]
    losses: dict[str, int] = field(default_factory=dict)
    reports: dict[str, DefectReport] = field(default_factory=dict)


def convert(
    sources: Mapping[str, Source], target: str, folder: str | os.PathLike[str], *, image_files: str = "copy"
) -> Conversion:
    """Write datasets, the splits of one, in another format, or in their own.

    From COCO to COCO, and from panoptic to panoptic, everything is kept that a file says of the images, categories and
    annotations that are kept, ids and keys of one's own included, and its other sections. Not kept are annotations
    without a usable box or polygon, which the reports tell, what of a box lies outside its image, and the images' file
    names, which become those in the new folder. To every other format goes what it has a place for: classes, boxes,
    masks, keypoints; what objects lose of these is counted. Everything else that the files say (areas, licences,
    attributes, supercategories, ``pose`` and ``truncated``, ...) is not kept.

    Args:
        sources: split's name -> where its data lies.
        target: the format, one of TARGETS.
        folder: a new folder; it appears when everything is written.
        image_files: what becomes of the images: ``"copy"``, ``"link"`` (hard links) or ``"none"``.

    Raises:
        DatasetError: a source is unusable, the sources do not fit each other, or they lack what the format needs.
        OutputError: the folder exists, or cannot be written.
    """
    if target not in _WRITERS:
        raise DatasetError(f"the format {target!r} is unknown{did_you_mean(target, TARGETS)} ({', '.join(TARGETS)})")
    for source in sources.values():
        if source.format not in _WRITERS[target][1]:
            raise DatasetError(
                f"{source.path!r} has the format {source.format!r}, which has not what {target!r} needs (that can be "
                f"made of: {', '.join(_WRITERS[target][1])})"
            )
    splits, reports = read_splits(sources)
    result = write_dataset(splits, target, folder, image_files=image_files)
    result.reports = reports
    return result


def read_splits(sources: Mapping[str, Source]) -> tuple[dict[str, ReadDataset], dict[str, DefectReport]]:
    """Read the splits of a dataset.

    Returns:
        Split's name -> its data, and its defects.

    Raises:
        DatasetError: a split cannot be used, or has other classes than the first one.
    """
    splits: dict[str, ReadDataset] = {}
    reports: dict[str, DefectReport] = {}
    for split, source in sources.items():
        report = DefectReport(source.path)
        read = read_source(source, report)
        report.raise_if_errors()
        if read is None:
            raise DatasetError(f"{source.path!r} could not be read")
        splits[split], reports[split] = read, report
    named = {split: class_names(read) for split, read in splits.items() if _has_names(read)}
    first = next(iter(named), "")
    for split, names in named.items():
        if names != named[first]:
            raise DatasetError(
                f"the classes of {sources[first].path!r} are {named[first]}, but those of {sources[split].path!r} are "
                f"{names}: the splits of one dataset must have the same ones (--classes)"
            )
    return splits, reports


def write_dataset(
    splits: Mapping[str, ReadDataset], target: str, folder: str | os.PathLike[str], *, image_files: str = "copy"
) -> Conversion:
    """Write data that was read; see :func:`convert`.

    Raises:
        DatasetError: the data lacks what the format needs.
        OutputError: the folder exists, or cannot be written.
    """
    if image_files not in IMAGE_FILES:
        raise DatasetError(f"images are {', '.join(map(repr, IMAGE_FILES))}, not {image_files!r}")
    write = _WRITERS[target][0]
    with new_folder(folder) as temporary:
        losses = write(temporary, splits, image_files)
    images = {split: len(read.records) for split, read in splits.items()}
    return Conversion(os.fspath(folder), images, {what: count for what, count in losses.items() if count})


def _has_names(read: ReadDataset) -> bool:
    return bool(read.metadata.get("thing_classes") or read.metadata.get("stuff_classes"))
