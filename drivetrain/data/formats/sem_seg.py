"""Semantic segmentation: a folder of images, and a folder of label maps of the same names.

A label map has the class of each pixel, 0 or more, and a label that means "not known" (255 by default).
"""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.data.catalog import MetadataCatalog
from drivetrain.data.images import UnreadableImageError
from drivetrain.data.paths import FolderIndex
from drivetrain.errors import DatasetError

from .defects import Defect, DefectReport, Severity
from .entry import ReadDataset, checked_path, finish_report, register_dataset
from .folder_files import image_size, list_files
from .label_maps import read_label_map

__all__ = [
    "IGNORE_LABEL",
    "check_label_maps",
    "label_map_end",
    "load_sem_seg",
    "read_sem_seg",
    "register_sem_seg",
    "spread_sample",
]

logger = logging.getLogger(__name__)

IGNORE_LABEL = 255
"""The label of pixels whose class is not known."""

_SOME_IMAGES = 8  # by which the end of label maps' names is found
_MOST_MAPS = 200  # whose pixels are looked at when a dataset is loaded


def load_sem_seg(
    gt_root: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    gt_ext: str = "png",
    image_ext: str | Sequence[str] = "jpg",
    *,
    dataset_name: str | None = None,
    max_examples: int = 5,
) -> list[dict[str, Any]]:
    """The records of a semantic segmentation dataset, one for each image that has a label map, sorted by name.

    A record has ``file_name``, ``sem_seg_file_name``, ``image_id`` (the name inside the folder, without its end),
    ``height`` and ``width``. Images without a label map, and label maps without an image, are left out with a warning.

    Args:
        gt_root: the folder of the label maps.
        image_root: the folder of the images.
        gt_ext: how the label maps' names end: a suffix, or a longer end as ``"_labels.png"``.
        image_ext: how the images' names end; several are possible.
        dataset_name: when given, and its metadata has ``stuff_classes``, the labels in up to 200 of the maps are
            compared with their number (and with ``ignore_label``).
        max_examples: how many defects of each kind an error or warning tells word for word.

    Raises:
        DatasetError: files are missing, of another size than their image, or have labels out of range; the message has
            every error found.
    """
    report = DefectReport(os.fspath(gt_root), max_examples)
    read = read_sem_seg(gt_root, image_root, report, gt_ext, image_ext)
    if read is not None and dataset_name is not None:
        metadata = MetadataCatalog.get(dataset_name)
        names, ignored = metadata.get("stuff_classes"), metadata.get("ignore_label", IGNORE_LABEL)
        if names is not None:
            check_label_maps(read.records, len(names), ignored, report, _MOST_MAPS)
    return finish_report(report, read, logger).records


def register_sem_seg(
    name: str,
    metadata: Mapping[str, Any],
    gt_root: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    gt_ext: str = "png",
    image_ext: str | Sequence[str] = "jpg",
) -> None:
    """Register a semantic segmentation dataset. Its files are read when its records are asked for.

    Args:
        name: the dataset's name.
        metadata: ``{"stuff_classes": [...]}``, the classes in order, and ``ignore_label`` if it is not 255.
        gt_root: see :func:`load_sem_seg`, as the others.
        image_root: the folder of the images.
        gt_ext: how the label maps' names end.
        image_ext: how the images' names end.

    Raises:
        DatasetError: the name is taken, or an argument has the wrong type.
    """
    labels, images = checked_path(gt_root, "gt_root", name), checked_path(image_root, "image_root", name)
    load = functools.partial(load_sem_seg, labels, images, gt_ext, image_ext, dataset_name=name)
    found = {"gt_root": labels, "image_root": images, "evaluator_type": "sem_seg", "ignore_label": IGNORE_LABEL}
    register_dataset(name, load, {**found, **metadata})


def read_sem_seg(
    gt_root: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    report: DefectReport,
    gt_ext: str | Sequence[str] = "png",
    image_ext: str | Sequence[str] = "jpg",
) -> ReadDataset | None:
    """Read as :func:`load_sem_seg` does; every defect goes to ``report``.

    Returns:
        None when there is nothing to read. The records may only be used when the report has no errors.
    """
    labels, images = FolderIndex(gt_root), FolderIndex(image_root)
    missing = [folder.root for folder in (labels, images) if not os.path.isdir(folder.root)]
    for root in missing:
        report.error("missing folder", f"the folder {root!r} does not exist")
    if missing:
        return None
    maps, pictures = _by_stem(labels.root, gt_ext), _pictures(labels.root, images.root, gt_ext, image_ext)
    _report_lonely(report, "image without label map", [name for stem, name in pictures.items() if stem not in maps])
    _report_lonely(report, "label map without image", [name for stem, name in maps.items() if stem not in pictures])
    both = [stem for stem in pictures if stem in maps]
    records = [r for stem in both if (r := _record(stem, images, pictures[stem], labels, maps[stem], report))]
    if not records and not report.has_errors:
        ends = f"that end with {image_ext!r} and label maps in {labels.root!r} that end with {gt_ext!r}"
        other = label_map_end(labels.root, images.root, gt_ext, image_ext)
        hint = f"; there are label maps that end with {other!r} (gt_ext, label_ext)" if other and not both else ""
        report.error(
            "no image", f"no name in {images.root!r} is that of a usable image and of a label map (images {ends}){hint}"
        )
        return None
    return ReadDataset(records, images.root)


def label_map_end(
    gt_root: str | os.PathLike[str],
    image_root: str | os.PathLike[str],
    gt_ext: str | Sequence[str],
    image_ext: str | Sequence[str],
) -> str:
    """What follows the images' names in those of their label maps, as ``"_mask.png"``; ``""`` if none is alike.

    Arguments are those of :func:`read_sem_seg`. Some of the images are looked at.
    """
    names = list(_by_stem(os.fspath(gt_root), gt_ext).values())
    pictures = _pictures(os.fspath(gt_root), os.fspath(image_root), gt_ext, image_ext)
    stems = sorted(pictures)[:: max(1, len(pictures) // _SOME_IMAGES)]
    ends = Counter(name[len(stem) :] for stem in stems for name in names if name.startswith(stem))
    return max(ends, key=lambda end: (ends[end], -len(end), end), default="")


def check_label_maps(
    records: Sequence[Mapping[str, Any]],
    num_classes: int | None,
    ignore_label: int,
    report: DefectReport,
    most: int,
) -> None:
    """Report label maps with labels that are neither a class nor the ignored one.

    Maps of 0 and the ignored label alone, as of masks whose objects are white, are reported as well.

    Args:
        records: with ``sem_seg_file_name``.
        num_classes: how many classes there are; None where that is not known: maps need only be readable.
        ignore_label: the label of pixels whose class is not known.
        report: filled.
        most: how many maps are read at most, spread evenly over the records.
    """
    seen: set[int] = set()
    for record in spread_sample(records, most):
        path = record["sem_seg_file_name"]
        try:
            found = np.unique(read_label_map(path))
        except UnreadableImageError as err:
            report.error("unreadable label map", str(err))
            continue
        seen.update(found.tolist())
        if num_classes is None:
            continue
        odd = found[(found >= num_classes) & (found != ignore_label)].tolist()
        if odd:
            shown = ", ".join(str(label) for label in odd[:8]) + (", ..." if len(odd) > 8 else "")
            rule = f"there are {num_classes} classes (0 to {num_classes - 1}), and {ignore_label} is ignored"
            report.error("label out of range", f"has the labels {shown}, but {rule}", repr(path))
    if seen == {0, ignore_label}:
        text = (
            f"the label maps hold 0 and {ignore_label} alone, and {ignore_label} is ignored: there is nothing to learn"
        )
        hint = f"write another label than {ignore_label}, or choose another ignore_label"
        report.add(Defect("one label", "", f"{text}; {hint}", Severity.DROPPED))


def spread_sample(items: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most ``most`` of the items, spread evenly over all."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def _pictures(
    gt_root: str, image_root: str, gt_ext: str | Sequence[str], image_ext: str | Sequence[str]
) -> dict[str, str]:
    """Name without its end -> name, of the images; of label maps in the same folder, none is an image."""
    same = os.path.realpath(gt_root) == os.path.realpath(image_root)
    return _by_stem(image_root, image_ext, set(_by_stem(gt_root, gt_ext).values()) if same else ())


def _by_stem(root: str, ends: str | Sequence[str], without: Collection[str] = ()) -> dict[str, str]:
    """Name without its end -> name, of the files below a folder; some are passed over."""
    given = [ends] if isinstance(ends, str) else list(ends)
    if not given or not all(isinstance(end, str) and end for end in given):
        raise DatasetError(f"names end with a text as 'png', or with one of several, not with {ends!r}")
    full = [end if not end.isalnum() else f".{end}" for end in given]
    found: dict[str, str] = {}
    for name in list_files(root, full):
        if name in without:
            continue
        end = max((end for end in full if name.lower().endswith(end.lower())), key=len)
        found.setdefault(name[: -len(end)], name)
    return found


def _report_lonely(report: DefectReport, kind: str, names: Sequence[str]) -> None:
    report.add_many(kind, Severity.DROPPED, range(len(names)), lambda i: (repr(names[i]), "has no counterpart"))


def _record(
    stem: str, images: FolderIndex, image: str, labels: FolderIndex, label_map: str, report: DefectReport
) -> dict[str, Any] | None:
    """The record of an image and its label map; None when one of them cannot be used."""
    for folder, name in ((images, image), (labels, label_map)):
        problem = folder.problem(name)
        if problem is not None:
            report.error("unsafe file name", f"{name!r} in {folder.root!r} {problem[1]}")
            return None
    paths = images.path(image), labels.path(label_map)
    try:
        size, map_size = image_size(paths[0]), image_size(paths[1])
    except UnreadableImageError as err:
        report.add(Defect("unreadable image", "", str(err), Severity.DROPPED))
        return None
    if size != map_size:
        text = f"has {map_size[1]} x {map_size[0]} pixels (width x height), but its image has {size[1]} x {size[0]}"
        report.error("size of label map", text, repr(paths[1]))
        return None
    names = {"file_name": paths[0], "sem_seg_file_name": paths[1]}
    return {**names, "image_id": stem, "height": size[0], "width": size[1]}
