"""The records of a COCO file: made of its checked contents, and kept so that the file is read once."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from drivetrain.data.cache import FileVersion, cached_store, file_version
from drivetrain.data.catalog import MetadataCatalog
from drivetrain.data.paths import FolderIndex
from drivetrain.data.store import RecordStore
from drivetrain.errors import DatasetError
from drivetrain.structures import BoxMode

from .coco_check import Categories, CocoColumns, check_coco
from .coco_file import paused_gc
from .coco_stream import CocoStream, scan_coco
from .defects import DefectReport, Severity

__all__ = ["CocoRecords", "convert_coco", "fill_metadata", "make_records", "summary"]

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_KEPT = 8 << 20  # bytes; a larger file is kept in converted form on disk: its records take a second or more to make
_STREAMED = 64 << 20  # bytes; a larger file is read piece by piece: as a whole it takes ten times its size in memory
_EXAMPLES = 5


class CocoRecords:
    """The records of one COCO file, for the catalog.

    `store` reads the file when it is first asked, and again when the file has changed. What it makes of a large file is
    kept on disk (see `drivetrain.data.cache`), where other processes and later trainings find it: they map it within
    a second, whatever its size, and share its memory. Sent to another process, only the paths are sent.
    """

    def __init__(self, json_file: str, image_root: str, name: str) -> None:
        """For the dataset ``name``, whose metadata is filled with each load; nothing is read yet."""
        self.json_file, self.image_root, self.name = json_file, image_root, name
        self._version: FileVersion | None = None
        self._store: RecordStore | None = None

    def __call__(self) -> list[Record]:
        """All records, as `load_coco_json` returns them; fresh ones each time.

        Raises:
            DatasetError: as of `load_coco_json`.
        """
        return list(self.store())

    def store(self) -> RecordStore:
        """The records, each made when it is taken out.

        Raises:
            DatasetError: as of `load_coco_json`.
        """
        version = file_version(self.json_file)
        if self._store is None or version is None or version != self._version:
            self._store, self._version = self._read(version), version
        fill_metadata(self.name, _categories(self._store), self.json_file)
        return self._store

    def _read(self, version: FileVersion | None) -> RecordStore:
        start = time.perf_counter()
        if version is None or version[0] <= _KEPT:
            store = convert_coco(self.json_file, self.image_root)
        else:
            root = os.path.abspath(self.image_root)
            variant = f"coco, images in {self.image_root!r} ({root})"
            store = cached_store(self.json_file, variant, lambda: convert_coco(self.json_file, self.image_root))
            _check_folder(store, self.image_root)
        _log(store, self.json_file, time.perf_counter() - start)
        return store

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_store": None, "_version": None}


def convert_coco(json_file: str, image_root: str) -> RecordStore:
    """The records of a COCO file in memory; its ``facts`` have the classes, and what was left out of the file.

    A large file is read piece by piece.

    Raises:
        DatasetError: as of `load_coco_json`.
    """
    version = file_version(json_file)
    large = version is not None and version[0] > _STREAMED and os.path.isdir(image_root)
    if large:
        logger.info("Converting %s (%.0f MB)", json_file, version[0] / 1e6 if version else 0.0)
    stream = scan_coco(json_file) if large else None
    with paused_gc():
        if stream is not None and (store := _of_stream(stream, json_file, image_root)) is not None:
            return store
        report = DefectReport(json_file, _EXAMPLES)
        columns = check_coco(json_file, image_root, report)
        report.raise_if_errors()
        if columns is None:
            raise DatasetError(f"{report.source} could not be read")
        return RecordStore.from_records(
            make_records(columns, image_root), _facts(columns.categories, report, image_root)
        )


def _of_stream(stream: CocoStream, json_file: str, image_root: str) -> RecordStore | None:
    """The records of a file that is read piece by piece; None where it has to be looked at as a whole after all."""
    report = DefectReport(json_file, _EXAMPLES)
    categories: list[Categories] = []

    def records() -> Iterator[Record]:
        for columns in stream.columns(image_root, report):
            categories[:] = [columns.categories]
            if not report.has_errors:
                yield from make_records(columns, image_root)

    try:
        store = RecordStore.from_records(records())
    except DatasetError:
        return None
    report.raise_if_errors()
    store.facts.update(_facts(categories[0], report, image_root))
    return store


def _facts(categories: Categories, report: DefectReport, image_root: str) -> dict[str, Any]:
    """What is known of the file beside its records; lists, as they come back from JSON."""
    told = asdict(categories)
    if told["keypoint_flip_map"] is not None:
        told["keypoint_flip_map"] = [list(pair) for pair in told["keypoint_flip_map"]]
    warnings = report.to_text(Severity.DROPPED, Severity.FIXED)
    counts = [report.count(Severity.DROPPED), report.count(Severity.FIXED)]
    return {"categories": told, "warnings": warnings, "left_out_and_corrected": counts, "folder": _changed(image_root)}


def _categories(store: RecordStore) -> Categories:
    told = dict(store.facts["categories"])
    pairs = told.pop("keypoint_flip_map")
    return Categories(**told, keypoint_flip_map=None if pairs is None else [(a, b) for a, b in pairs])


def _changed(folder: str) -> int | None:
    version = file_version(folder)
    return None if version is None else version[1]


def _check_folder(store: RecordStore, image_root: str) -> None:
    """Check that the images are still there, unless the folder is as it was when the file was converted.

    Raises:
        DatasetError: an image is missing; the message has the first ones.
    """
    if _changed(image_root) == store.facts["folder"]:
        return
    if not os.path.isdir(image_root):
        raise DatasetError(f"image folder {image_root!r} does not exist")
    index, skipped = FolderIndex(image_root), len(os.path.join(image_root, ""))
    missing = [name for name in store.file_names() if index.problem(name[skipped:]) is not None]
    if missing:
        named = ", ".join(map(repr, missing[:_EXAMPLES]))
        raise DatasetError(f"{len(missing):,} images of {len(store):,} are missing in {image_root!r}: {named}")


def _log(store: RecordStore, source: str, seconds: float) -> None:
    dropped, fixed = store.facts["left_out_and_corrected"]
    if dropped or fixed:
        logger.warning(f"{source}: {dropped:,} annotations left out, {fixed:,} corrected:\n{store.facts['warnings']}")
    classes = len(store.facts["categories"]["names"])
    summary(source, len(store), int(store.num_annotations.sum()), classes, seconds)


def summary(source: str, images: int, annotations: int, classes: int, seconds: float) -> None:
    """Log what a file holds."""
    logger.info(f"{source}: {images:,} images, {annotations:,} annotations, {classes} classes ({seconds:.1f} s)")
    if annotations == 0:
        logger.warning(f"{source} has no usable annotation: it can be predicted on, not trained on")


def make_records(
    columns: CocoColumns, image_root: str, extra_keys: tuple[str, ...] = (), *, with_entries: bool = False
) -> list[Record]:
    """The records of a checked file, as `load_coco_json` returns them.

    Args:
        columns: the file.
        image_root: the folder of the images.
        extra_keys: further keys to copy from each annotation that has them.
        with_entries: give each record and each annotation what the file says of it, under ``entry``.
    """
    annotations: list[list[dict[str, Any]]] = [[] for _ in columns.images]
    rows = zip(
        columns.keep.tolist(),
        columns.image_of.tolist(),
        columns.class_of.tolist(),
        columns.boxes.tolist(),
        columns.segmentations,
        columns.keypoints,
        columns.annotations,
        strict=True,
    )
    mode = BoxMode.XYWH_ABS
    for keep, image, label, box, segmentation, keypoints, entry in rows:
        if not keep:
            continue
        made = {"iscrowd": int(entry.get("iscrowd") or 0), "bbox": box, "bbox_mode": mode, "category_id": label}
        if entry.get("area") is not None:
            made["area"] = entry["area"]
        if segmentation is not None:
            made["segmentation"] = segmentation
        if keypoints is not None:
            made["keypoints"] = _from_corner(keypoints)
        for key in extra_keys:
            if key in entry and key not in made:
                made[key] = entry[key]
        if with_entries:
            made["entry"] = entry
        annotations[image].append(made)
    order = _image_order(columns.images)
    records = [_record(columns.images[i], annotations[i], image_root) for i in order]
    if with_entries:
        for record, i in zip(records, order, strict=True):
            record["entry"] = columns.images[i]
    return records


def _record(entry: dict[str, Any], annotations: list[dict[str, Any]], image_root: str) -> Record:
    return {
        "file_name": os.path.join(image_root, entry["file_name"]),
        "image_id": entry["id"],
        "height": int(entry["height"]),
        "width": int(entry["width"]),
        "annotations": annotations,
    }


def _image_order(images: list[dict[str, Any]]) -> list[int]:
    """Places of the images by ascending id, numbers before strings."""
    return sorted(range(len(images)), key=lambda i: (isinstance(images[i]["id"], str), images[i]["id"]))


def _from_corner(keypoints: list[float]) -> list[float]:
    """Pixel indices as distances from the image's corner, through the pixels' centres."""
    return [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(keypoints)]


def fill_metadata(name: str, categories: Categories, source: str) -> None:
    """Put class names, the mapping of category ids and keypoint names into the metadata of dataset ``name``.

    Raises:
        DatasetError: the metadata has other class names.
    """
    metadata = MetadataCatalog.get(name)
    given = metadata.get("thing_classes")
    if given is not None and list(given) != categories.names:
        raise DatasetError(
            f"the class names given for dataset {name!r} are {list(given)}, but those of {source} are "
            f"{categories.names} (in the order of their category ids); leave them out to take the file's"
        )
    if given is None:
        metadata.thing_classes = categories.names
    metadata.thing_dataset_id_to_contiguous_id = categories.index
    for key in ("keypoint_names", "keypoint_flip_map"):
        value = getattr(categories, key)
        if value is not None and metadata.get(key) is None:
            setattr(metadata, key, value)
