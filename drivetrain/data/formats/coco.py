"""COCO annotation files as dataset records.

The format is the one of the COCO detection data (https://cocodataset.org/#format-data): a JSON object with the lists
``images``, ``annotations`` and ``categories``. The whole file is checked before a record is made, and everything that
is wrong with it is told at once; see ``inspect_coco``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError

from .coco_check import check_coco, check_coco_sections
from .coco_file import paused_gc, read_coco_file
from .coco_records import CocoRecords, fill_metadata, make_records, summary
from .defects import DefectReport
from .entry import ReadDataset

__all__ = ["inspect_coco", "load_coco_json", "make_records", "read_coco", "register_coco_instances"]

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def load_coco_json(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
    *,
    check_images: bool = True,
    max_examples: int = 5,
) -> list[Record]:
    """The records of a COCO annotation file, one for each image, in the order of the image ids.

    A record has ``file_name`` (below ``image_root``), ``image_id``, ``height``, ``width`` and ``annotations``. An
    annotation has ``bbox`` (x, y, width, height in pixels, cut to the image) with its ``bbox_mode``, ``category_id``
    (0, 1, ... in the order of the file's category ids), ``iscrowd``, and where the file has them ``area``,
    ``segmentation`` (polygons, or the run-length dict as in the file) and ``keypoints`` (x and y moved by half a pixel:
    the file counts pixels, records measure from the image's corner).

    Annotations without a usable box or polygon are left out and counted in one warning.

    Args:
        json_file: the annotation file.
        image_root: the folder that the file's names are relative to; no name may lead out of it.
        dataset_name: when given, the class names, the mapping of category ids and keypoint names go to its metadata.
        extra_annotation_keys: further keys to copy from each annotation that has them.
        check_images: whether a missing image file is an error.
        max_examples: how many defects of each kind an error or warning tells word for word.

    Raises:
        DatasetError: the file is missing, malformed, empty or inconsistent; the message has every error found.
    """
    start = time.perf_counter()
    report = DefectReport(os.fspath(json_file), max_examples)
    with paused_gc():
        columns = check_coco(json_file, image_root, report, check_images=check_images)
        report.raise_if_errors()
        if columns is None:
            raise DatasetError(f"{report.source} could not be read")
        records = make_records(columns, os.fspath(image_root), tuple(extra_annotation_keys or ()))
    report.log(logger)
    if dataset_name is not None:
        fill_metadata(dataset_name, columns.categories, report.source)
    count = sum(len(record["annotations"]) for record in records)
    summary(report.source, len(records), count, len(columns.categories.names), time.perf_counter() - start)
    return records


def inspect_coco(
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    *,
    check_images: bool = True,
    max_examples: int = 5,
) -> DefectReport:
    """Everything that is wrong with a COCO file, without raising and without making records.

    Args:
        json_file: the annotation file.
        image_root: the folder that the file's names are relative to.
        check_images: whether a missing image file is an error.
        max_examples: how many defects of each kind are kept word for word.
    """
    report = DefectReport(os.fspath(json_file), max_examples)
    with paused_gc():
        check_coco(json_file, image_root, report, check_images=check_images)
    return report


def read_coco(
    json_file: str | os.PathLike[str], image_root: str | os.PathLike[str], report: DefectReport
) -> ReadDataset | None:
    """Read as :func:`load_coco_json` does, with the entries of the file; every defect goes to ``report``.

    Returns:
        None when the file has errors.
    """
    root = os.fspath(image_root)
    with paused_gc():
        file = read_coco_file(json_file, report)
        columns = None if file is None else check_coco_sections(file, root)
        if file is None or file.categories is None or columns is None or report.has_errors:
            return None
        records = make_records(columns, root, ("difficult",), with_entries=True)
    categories = columns.categories
    found = {
        "thing_classes": categories.names,
        "thing_dataset_id_to_contiguous_id": categories.index,
        "keypoint_names": categories.keypoint_names,
        "keypoint_flip_map": categories.keypoint_flip_map,
    }
    metadata = {key: value for key, value in found.items() if value is not None}
    return ReadDataset(records, root, metadata, {**file.others, "categories": file.categories.entries})


def register_coco_instances(
    name: str,
    metadata: Mapping[str, Any],
    json_file: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
) -> None:
    """Register a COCO annotation file as the dataset ``name``. The file is read when its records are asked for.

    It is read once, and again when it changed; a large one is kept in converted form on disk, see `CocoRecords`.

    Args:
        name: the dataset's name.
        metadata: further metadata, as ``{"thing_colors": ...}``; may be empty. Class names need not be given; when they
            are, they must be those of the file.
        json_file: the annotation file.
        image_root: the folder of the images.

    Raises:
        DatasetError: the name is taken, or an argument has the wrong type.
    """
    for argument, value in (("json_file", json_file), ("image_root", image_root)):
        if not isinstance(value, (str, os.PathLike)):
            raise DatasetError(f"{argument} of dataset {name!r} must be a path, not {value!r}")
    if not isinstance(metadata, Mapping):
        raise DatasetError(f"the metadata of dataset {name!r} must be a mapping, not {metadata!r}; {{}} is fine")
    json_path, root = os.fspath(json_file), os.fspath(image_root)
    DatasetCatalog.register(name, CocoRecords(json_path, root, name))
    try:
        MetadataCatalog.get(name).set(json_file=json_path, image_root=root, evaluator_type="coco", **metadata)
    except (DatasetError, TypeError):
        DatasetCatalog.remove(name)
        raise
