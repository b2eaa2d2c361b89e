"""Pascal VOC: one XML file with boxes beside each image.

Two layouts are read: the folders of the VOC challenges (``JPEGImages``, ``Annotations``, ``ImageSets/Main``; see the
development kit at http://host.robots.ox.ac.uk/pascal/VOC/), also as ``images`` and ``annotations``, and a plain folder
of images with XML files of the same names, which labelling tools write.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Sequence
from typing import Any

from drivetrain.data.images import UnreadableImageError
from drivetrain.data.paths import FolderIndex
from drivetrain.errors import DatasetError, did_you_mean
from drivetrain.structures import BoxMode

from .class_names import find_class_names, read_label_colours
from .defects import Defect, DefectReport, Severity
from .entry import ReadDataset, checked_path, fill_metadata, finish_report, register_dataset
from .folder_files import IMAGE_SUFFIXES, image_size, list_files, read_lines, stem_index
from .missing import missing_hint
from .objects import ObjectTable
from .voc_xml import VocFile, VocObject, read_voc_xml

__all__ = ["VOC_CLASSES", "annotation_folder", "load_voc_instances", "read_voc", "register_pascal_voc", "voc_splits"]

logger = logging.getLogger(__name__)

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
"""The classes of the VOC challenges from 2007 on."""

_LIMIT = 1 << 26  # bytes of a list of names
_COLOURS_FILE = "labelmap.txt"
_IMAGE_FOLDERS = ("JPEGImages", "images")
_LISTED = re.compile(r"(.*\S)\s+(?:-1|0|1)")  # a line of the list of a class: a name, and whether the image shows it


def load_voc_instances(
    dirname: str | os.PathLike[str],
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    *,
    dataset_name: str | None = None,
    max_examples: int = 5,
) -> list[dict[str, Any]]:
    """The records of a Pascal VOC dataset, one for each image.

    A record has ``file_name``, ``image_id`` (the file's name without suffix), ``height``, ``width`` and
    ``annotations``, each with ``bbox`` (XYXY, in pixels), ``bbox_mode``, ``category_id``, ``iscrowd`` and
    ``difficult`` (0 or 1). The files count pixels from 1 and include the last one, so that 1 is taken from ``xmin`` and
    ``ymin``.

    Args:
        dirname: the folder that holds ``Annotations`` and ``JPEGImages``, or images and XML files together.
        split: a list in ``ImageSets/Main``, as ``"train"``; None: every XML file.
        class_names: the classes in order. None: those in ``classes.txt`` of the folder, or those in ``labelmap.txt``
            (of CVAT) without the background, or the twenty of VOC if the files name no other, or else the names in the
            files, in alphabetical order.
        dataset_name: when given, the class names go to its metadata.
        max_examples: how many defects of each kind an error or warning tells word for word.

    Raises:
        DatasetError: files are missing or malformed; the message has every error found.
    """
    report = DefectReport(os.fspath(dirname), max_examples)
    read = finish_report(report, read_voc(dirname, split, class_names, report), logger)
    fill_metadata(dataset_name, read.metadata, report.source)
    return read.records


def register_pascal_voc(
    name: str,
    dirname: str | os.PathLike[str],
    split: str | None,
    year: int | str,
    class_names: Sequence[str] | None = VOC_CLASSES,
) -> None:
    """Register a Pascal VOC dataset. Its files are read when its records are asked for.

    Args:
        name: the dataset's name.
        dirname: see :func:`load_voc_instances`.
        split: see :func:`load_voc_instances`.
        year: of the challenge, which decides how it is evaluated: 2007 by 11 points, later ones by the whole curve.
        class_names: the classes in order; None: as :func:`load_voc_instances` finds them.

    Raises:
        DatasetError: the name is taken, or an argument has the wrong type.
    """
    folder = checked_path(dirname, "dirname", name)
    load = functools.partial(load_voc_instances, folder, split, class_names, dataset_name=name)
    metadata: dict[str, Any] = {"dirname": folder, "year": year, "split": split, "evaluator_type": "pascal_voc"}
    if class_names is not None:
        metadata["thing_classes"] = list(class_names)
    register_dataset(name, load, metadata)


def annotation_folder(dirname: str | os.PathLike[str]) -> str:
    """The name of the folder of XML files in a dataset's folder; ``""`` when they lie in that folder itself."""
    if os.path.isdir(os.path.join(dirname, "Annotations")):
        return "Annotations"
    return "annotations" if list_files(os.path.join(dirname, "annotations"), (".xml",)) else ""


def voc_splits(dirname: str | os.PathLike[str]) -> list[str]:
    """The lists in ``ImageSets/Main``, without those of single classes (``cat_train``)."""
    names = list_files(os.path.join(dirname, "ImageSets", "Main"), (".txt",), recursive=False)
    stems = [os.path.splitext(name)[0] for name in names]
    return [stem for stem in stems if stem.rpartition("_")[2] not in stems or "_" not in stem]


def read_voc(
    dirname: str | os.PathLike[str],
    split: str | None,
    class_names: Sequence[str] | None,
    report: DefectReport,
) -> ReadDataset | None:
    """Read as :func:`load_voc_instances` does; every defect goes to ``report``.

    Returns:
        None when there is nothing to read. The records may only be used when the report has no errors.
    """
    folders = _Folders(os.fspath(dirname))
    if not os.path.isdir(folders.annotations.root):
        report.error("missing folder", f"the folder {folders.annotations.root!r} does not exist")
        return None
    stems = folders.stems() if split is None else _listed(folders, split, report)
    if stems is None:
        return None
    if not stems:
        report.error("no annotation", f"{folders.annotations.root!r} holds no XML file")
        return None
    files = {stem: file for stem in stems if (file := _read_file(folders, stem, report)) is not None}
    names = _class_names(folders.root, class_names, files, report)
    index = {name: i for i, name in enumerate(names)}
    table = ObjectTable(report)
    for stem, file in files.items():
        _add(table, folders, stem, file, index, report)
    records = table.records(BoxMode.XYXY_ABS)
    if not records and not report.has_errors:
        report.error("no image", f"no image of {folders.images.root!r} can be used")
    return ReadDataset(records, folders.images.root, {"thing_classes": names})


class _Folders:
    """Where the images and the XML files of a dataset are."""

    def __init__(self, root: str) -> None:
        self.root = root
        annotations = annotation_folder(root)
        below = next((name for name in _IMAGE_FOLDERS if os.path.isdir(os.path.join(root, name))), _IMAGE_FOLDERS[0])
        self.annotations = FolderIndex(os.path.join(root, annotations) if annotations else root)
        self.images = FolderIndex(os.path.join(root, below) if annotations else root)
        self.by_stem = stem_index(list_files(self.images.root, IMAGE_SUFFIXES))
        self._xml_by_stem = stem_index(list_files(self.annotations.root, (".xml",)))

    def stems(self) -> list[str]:
        """The names of all XML files, without suffix, in the order of the files' names."""
        return sorted(self._xml_by_stem, key=self.xml_name)

    def xml_name(self, stem: str) -> str:
        """The name of the XML file of an image, whether it exists or not; the suffix may be in capitals."""
        return self._xml_by_stem.get(stem, f"{stem}.xml")


def _listed(folders: _Folders, split: str, report: DefectReport) -> list[str] | None:
    """The names in a list of ``ImageSets/Main``; of the lists of single classes, the first of two columns.

    Names may have spaces, and then stand in quotes where some tools write them.
    """
    path = os.path.join(folders.root, "ImageSets", "Main", f"{split}.txt")
    known = voc_splits(folders.root)
    if FolderIndex(os.path.dirname(path)).problem(f"{split}.txt"):
        there = f" (there: {', '.join(known)})" if known else ""
        report.error("missing split", f"there is no list {path!r}{did_you_mean(split, known)}{there}")
        return None
    try:
        lines = read_lines(path, _LIMIT)
    except DatasetError as err:
        report.error("unreadable list", str(err))
        return None
    stems = [_listed_name(folders, line) for line in lines if line]
    if not stems:
        report.error("empty list", f"{path!r} names no image")
        return None
    return list(dict.fromkeys(stems))


def _listed_name(folders: _Folders, line: str) -> str:
    """The name in a line: the whole line if there is such a file, else what stands before a class's mark."""
    names = [line, *(match.group(1) for match in (_LISTED.fullmatch(line),) if match)]
    names += [name[1:-1] for name in names if len(name) > 2 and name[0] == name[-1] == '"']
    return next((name for name in names if folders.annotations.problem(folders.xml_name(name)) is None), names[-1])


def _read_file(folders: _Folders, stem: str, report: DefectReport) -> VocFile | None:
    problem = folders.annotations.problem(folders.xml_name(stem))
    path = folders.annotations.path(folders.xml_name(stem))
    if problem is not None:
        kind = {"unsafe": "unsafe file name", "missing": "missing annotation"}[problem[0]]
        report.error(kind, f"{path!r} {problem[1]}")
        return None
    try:
        return read_voc_xml(path)
    except DatasetError as err:
        report.error("malformed XML", str(err))
        return None


def _class_names(root: str, given: Sequence[str] | None, files: dict[str, VocFile], report: DefectReport) -> list[str]:
    """The classes in order; see :func:`load_voc_instances`."""
    if given is not None:
        return list(given)
    try:
        listed = find_class_names([root])
        colours = os.path.join(root, _COLOURS_FILE)
        if listed is None and os.path.exists(colours):
            listed = [name for name in read_label_colours(colours) if name != "background"]
    except DatasetError as err:
        report.error("unreadable list", str(err))
        listed = None
    if listed:
        return listed
    found = {o.name for file in files.values() for o in file.objects if o.name}
    return list(VOC_CLASSES) if found <= set(VOC_CLASSES) else sorted(found)


def _add(
    table: ObjectTable, folders: _Folders, stem: str, file: VocFile, index: dict[str, int], report: DefectReport
) -> None:
    """Add an image and its objects to the table."""
    where = folders.annotations.path(folders.xml_name(stem))
    image = folders.by_stem.get(stem) or file.file_name or f"{stem}.jpg"
    problem = folders.images.problem(image)
    if problem is not None:
        kind = {"unsafe": "unsafe file name", "missing": "missing image"}[problem[0]]
        hint = missing_hint(folders.images.root, image)
        text = f"is of the image {image!r} in {folders.images.root!r}, which {problem[1]}{hint}"
        report.error(kind, text, where)
        return
    path = folders.images.path(image)
    try:
        height, width = file.size if file.size is not None else image_size(path)
    except UnreadableImageError as err:
        report.add(Defect("unreadable image", where, f"is of an image that cannot be used: {err}", Severity.DROPPED))
        return
    table.add_image(path, stem, height, width)
    for item in file.objects:
        _add_object(table, where, item, index, report)


def _add_object(table: ObjectTable, file: str, item: VocObject, index: dict[str, int], report: DefectReport) -> None:
    where = f"{file}, {item.where}"
    if item.problem:
        report.error("malformed object", item.problem, where)
    elif item.name not in index:
        text = f"is of the class {item.name!r}, which is not among the {len(index)} classes"
        known = f"{', '.join(list(index)[:10])}{', ...' if len(index) > 10 else ''}"
        hint = did_you_mean(item.name, index) or f" ({known})"
        report.error("unknown class", text + hint, where)
    else:
        x0, y0, x1, y1 = item.box
        box = [x0 - 1, y0 - 1, x1 - (x0 - 1), y1 - (y0 - 1)]
        table.add(where, index[item.name], box, {"difficult": item.difficult})
