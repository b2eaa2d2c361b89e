"""YOLO datasets: a ``data.yaml``, images, and for each image a text file with one object on each line.

A line is the class and a box, ``class cx cy w h``, or the class and an outline, ``class x1 y1 x2 y2 x3 y3 ...``, or,
where ``data.yaml`` gives ``kpt_shape``, the class, a box and the keypoints. All coordinates are shares of the image's
width and height. The labels of ``.../images/a/b.jpg`` are in ``.../labels/a/b.txt``; an image without that file has no
object. See https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from drivetrain.data.images import UnreadableImageError
from drivetrain.data.paths import FolderIndex
from drivetrain.errors import DatasetError, did_you_mean
from drivetrain.structures import BoxMode

from .defects import Defect, DefectReport, Severity
from .entry import ReadDataset, checked_path, fill_metadata, finish_report, register_dataset
from .folder_files import IMAGE_SUFFIXES, image_size, list_files, read_lines
from .keypoint_pairs import flip_pairs
from .missing import missing_hint, with_slashes
from .objects import ObjectTable
from .yolo_config import YoloConfig, read_yolo_config
from .yolo_label import LabelLayout, parse_label

__all__ = ["label_name", "load_yolo", "read_yolo", "register_yolo"]

logger = logging.getLogger(__name__)

_LARGEST_LIST, _LARGEST_LABELS = 1 << 27, 1 << 24  # bytes


def load_yolo(
    data_yaml: str | os.PathLike[str],
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
    dataset_name: str | None = None,
    max_examples: int = 5,
) -> list[dict[str, Any]]:
    """The records of a split of a YOLO dataset, one for each image, in the order of their names.

    A record has ``file_name``, ``image_id`` (its name inside the dataset's folder, without suffix), ``height``,
    ``width`` (from the image's header) and ``annotations``, each with ``bbox`` (XYWH, in pixels, cut to the image),
    ``bbox_mode``, ``category_id``, ``iscrowd`` and, where the file has them, ``segmentation`` (one polygon) and
    ``keypoints``.

    Args:
        data_yaml: the file.
        split: ``"train"``, ``"val"`` or ``"test"``.
        root: the folder that all images must lie in; None: that of the file.
        dataset_name: when given, class names and keypoints go to its metadata.
        max_examples: how many defects of each kind an error or warning tells word for word.

    Raises:
        DatasetError: files are missing or malformed; the message has every error found.
    """
    report = DefectReport(os.fspath(data_yaml), max_examples)
    read = finish_report(report, read_yolo(data_yaml, split, report, root), logger)
    fill_metadata(dataset_name, read.metadata, report.source)
    return read.records


def register_yolo(
    name: str,
    data_yaml: str | os.PathLike[str],
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
) -> None:
    """Register a split of a YOLO dataset, to be evaluated as COCO data; its files are read when they are needed.

    Raises:
        DatasetError: the name is taken, or an argument has the wrong type.
    """
    path = checked_path(data_yaml, "data_yaml", name)
    load = functools.partial(load_yolo, path, split, root=root, dataset_name=name)
    metadata = {"data_yaml": path, "split": split, "root": root, "evaluator_type": "coco"}
    register_dataset(name, load, metadata)


def read_yolo(
    data_yaml: str | os.PathLike[str],
    split: str,
    report: DefectReport,
    root: str | os.PathLike[str] | None = None,
) -> ReadDataset | None:
    """Read as :func:`load_yolo` does; every defect goes to ``report``.

    Returns:
        None when there is nothing to read. The records may only be used when the report has no errors.
    """
    config = read_yolo_config(data_yaml, report, root)
    if config is None:
        return None
    if split not in config.splits:
        hint = did_you_mean(split, config.splits) or f" (it has: {', '.join(config.splits) or 'none'})"
        report.error("missing split", f"{config.path} has no split {split!r}{hint}")
        return None
    folder = FolderIndex(config.root)
    names = _image_names(config, split, folder, report)
    if not names:
        if not report.has_errors:
            report.error("no image", f"the split {split!r} of {config.path} has no image")
        return None
    table = ObjectTable(report)
    labelled = sum(_add_image(table, folder, name, config, report) for name in names)
    if not labelled:
        first = label_name(names[0])
        text = f"none of the {len(names):,} images has a label file (that of {names[0]!r} would be {first!r})"
        report.error("no labels", f"{config.path}: {text}")
    records = table.records(BoxMode.XYWH_ABS, config.keypoints[0] if config.keypoints else None)
    if not records and not report.has_errors:
        report.error("no image", f"no image of the split {split!r} of {config.path} can be used")
    return ReadDataset(records, config.root, _metadata(config))


def label_name(image: str) -> str:
    """The name of an image's label file: in ``labels`` instead of the last ``images`` on the way, else beside it."""
    parts = os.path.splitext(image)[0].split("/")
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return "/".join(parts) + ".txt"


def _metadata(config: YoloConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"thing_classes": config.names}
    if config.keypoints:
        names = config.keypoint_names or [f"keypoint {i}" for i in range(config.keypoints[0])]
        flip = config.flip or []
        pairs = [(names[i], names[j]) for i, j in enumerate(flip) if i < j]
        found |= {"keypoint_names": names, "keypoint_flip_map": pairs if flip else flip_pairs(names)}
    return found


def _image_names(config: YoloConfig, split: str, folder: FolderIndex, report: DefectReport) -> list[str]:
    """The images of a split, relative to the root, each once and existing."""
    names: dict[str, None] = {}
    for place in config.splits[split]:
        found = _place(config, place)
        if found is None:
            text = f"{config.path}: {split!r} is {place!r}, which is not there inside {config.root!r}"
            hint = "give the folder that it is relative to as root, or put the file into that folder"
            report.error("missing images", f"{text}; {hint}")
        elif os.path.isdir(os.path.join(config.root, found)):
            below = list_files(os.path.join(config.root, found), IMAGE_SUFFIXES)
            names.update(dict.fromkeys(name if found == os.curdir else f"{found}/{name}" for name in below))
        else:
            names.update(dict.fromkeys(_listed(config, found, report)))
    problems = {name: problem for name in names if (problem := folder.problem(name)) is not None}
    for name, (kind, why) in problems.items():
        title = {"unsafe": "unsafe file name", "missing": "missing image"}[kind]
        report.error(title, f"image {name!r} in {config.root!r} {why}{missing_hint(config.root, name)}")
    return sorted(name for name in names if name not in problems)


def _place(config: YoloConfig, place: str) -> str | None:
    """A folder or list as a name relative to the root; None when there is none inside it.

    Many files are written from inside a folder beside the images and begin with ``../``; the tools that write them
    read that as the file's own folder.
    """
    base = config.base
    if not os.path.exists(os.path.join(config.root, base, place)):
        place = with_slashes(place)
    options = [os.path.join(base, place), place]
    if place.startswith("../"):
        options += [os.path.join(base, place[3:]), place[3:]]
    for option in options:
        name = _inside(config.root, option)
        if name is not None and os.path.exists(os.path.join(config.root, name)):
            return name
    return None


def _inside(root: str, path: str) -> str | None:
    """A path relative to the root, or absolute, as a name relative to the root; None when it leads out."""
    top = os.path.abspath(root)
    name = os.path.relpath(os.path.join(top, path), top).replace(os.sep, "/")
    return None if name.split("/")[0] == os.pardir else name


def _listed(config: YoloConfig, found: str, report: DefectReport) -> list[str]:
    """The images that a list file names, each relative to the root or to the list's folder, or by absolute paths."""
    path = os.path.join(config.root, found)
    try:
        lines = [line for line in read_lines(path, _LARGEST_LIST) if line]
    except DatasetError as err:
        report.error("unreadable list", str(err))
        return []
    names = []
    for line in lines:
        line = with_slashes(line)
        start = os.path.dirname(found) if line.startswith("./") else config.base
        name = _inside(config.root, os.path.join(start, line))
        if name is None:
            report.error("unsafe file name", f"{path!r} names {line!r}, which lies outside {config.root!r}")
        else:
            names.append(name)
    return names


def _add_image(table: ObjectTable, folder: FolderIndex, name: str, config: YoloConfig, report: DefectReport) -> bool:
    """Add an image and its objects; whether it has a label file."""
    path, labels = folder.path(name), label_name(name)
    try:
        height, width = image_size(path)
    except UnreadableImageError as err:
        report.add(Defect("unreadable image", "", str(err), Severity.DROPPED))
        return True
    table.add_image(path, os.path.splitext(name)[0], height, width)
    problem = folder.problem(labels)
    if problem is not None:
        if problem[0] == "unsafe":
            report.error("unsafe file name", f"label file {labels!r} in {config.root!r} {problem[1]}")
        return False
    try:
        lines = read_lines(folder.path(labels), _LARGEST_LABELS)
    except DatasetError as err:
        report.error("unreadable labels", str(err))
        return True
    layout = LabelLayout(len(config.names), config.keypoints)
    for number, line in enumerate(lines, 1):
        where = f"{labels}:{number}"
        try:
            if line:
                item = parse_label(line, height, width, layout)
                table.add(where, item.label, item.box, item.more)
        except ValueError as err:
            report.error("malformed label", str(err), where)
    return True
