"""Where a dataset lies, found from one path, and its records whatever its format."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from drivetrain.errors import DatasetError, did_you_mean

from .class_names import find_class_names
from .defects import DefectReport
from .entry import ReadDataset
from .folder_files import IMAGE_SUFFIXES, list_files
from .image_folder import class_folders, read_image_folder
from .known import FORMATS
from .missing import with_slashes
from .recognition import (
    MAP_SUFFIXES,
    SPLIT_FOLDERS,
    find_path,
    json_file,
    label_folder,
    mapped,
    recognized,
    refuse_bare_yolo,
    split_folder,
    split_in,
    yolo_file,
)
from .sem_seg import IGNORE_LABEL, label_map_end, read_sem_seg
from .voc import annotation_folder, read_voc, voc_splits
from .yolo import read_yolo
from .yolo_config import YOLO_SPLITS

__all__ = ["Source", "find_source", "read_source"]

_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.){1,1000}")')


@dataclass(frozen=True)
class Source:
    """Where a dataset lies.

    Attributes:
        format: a name of `drivetrain.data.formats.known.FORMATS`.
        path: the annotation file, ``data.yaml``, or folder (of a sem_seg dataset: that of the label maps).
        images: the folder of the images, where the format needs one.
        labels: the folder of panoptic PNGs.
        split: of a format whose files hold several.
        classes: the class names, where they are not in the files.
    """

    format: str
    path: str
    images: str = ""
    labels: str = ""
    split: str | None = None
    classes: tuple[str, ...] | None = None

    @property
    def split_name(self) -> str:
        """The split's name, told by the name of file or folder when no other is known; ``"train"`` if there is none."""
        return self.split or split_in(self.path) or "train"


def find_source(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    images: str | None = None,
    labels: str | None = None,
    split: str | None = None,
    classes: Sequence[str] | None = None,
) -> Source:
    """Find out what lies at ``path``, and where the parts that belong to it are.

    Args:
        path: an annotation file (COCO, COCO panoptic), a ``data.yaml``, or a dataset's folder.
        format: its format; None: what it looks like.
        images: the folder of the images; None: looked for near ``path``.
        labels: the folder of label maps or panoptic PNGs; None: looked for near ``path``.
        split: which of several splits; None: the first there is.
        classes: the class names in order, for formats whose files need not have them.

    Raises:
        DatasetError: there is nothing, or nothing that is a dataset of a known format, or a part of it is not found.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        folder, base = os.path.split(os.path.abspath(name))
        near = did_you_mean(base, os.listdir(folder)) if os.path.isdir(folder) else ""
        raise DatasetError(f"there is no {name!r}{near}")
    if format is not None and format not in FORMATS:
        known = ", ".join(FORMATS)
        raise DatasetError(f"the format {format!r} is unknown{did_you_mean(format, FORMATS)} (known: {known})")
    kind = format or recognized(name, images, split)
    source = Source(kind, name, images or "", labels or "", split, tuple(classes) if classes is not None else None)
    return _COMPLETE[kind](source)


def read_source(source: Source, report: DefectReport) -> ReadDataset | None:
    """The records of a dataset; every defect goes to ``report``.

    Returns:
        None when there is nothing to read. The records may only be used when the report has no errors.
    """
    return _READ[source.format](source, report)


def _coco(source: Source) -> Source:
    path = json_file(source.path, source.split)
    return replace(source, path=path, images=source.images or _image_folder(path, source.split_name))


def _coco_panoptic(source: Source) -> Source:
    source = _coco(source)
    folder, stem = os.path.split(os.path.splitext(source.path)[0])
    labels = source.labels or find_path(folder, (stem, os.path.join(os.pardir, stem)))
    if not labels:
        raise DatasetError(f"the folder of the PNGs of {source.path!r} is not found; give it with --labels")
    return replace(source, labels=labels)


def _voc(source: Source) -> Source:
    part = split_folder(source.path, source.split)
    in_parts = not annotation_folder(source.path) and not list_files(source.path, (".xml",), recursive=False)
    if in_parts and list_files(part, (".xml",), recursive=False):
        return replace(source, path=part, split=None)
    splits = voc_splits(source.path)
    if not splits:  # the name is one for what is written
        return replace(source, split=None)
    usual = next((s for s in ("trainval", *YOLO_SPLITS) if s in splits), splits[0])
    return replace(source, split=source.split or usual)


def _yolo(source: Source) -> Source:
    path = source.path
    if os.path.isdir(path):
        found = yolo_file(path)
        if not found:
            refuse_bare_yolo(path)
            raise DatasetError(f"there is no data.yaml in {path!r}")
        path = found
    return replace(source, path=path, split=source.split or "train")


def _sem_seg(source: Source) -> Source:
    root, labels, images = source.path, source.labels or source.path, source.images
    if not source.labels and not images:
        labels, images = label_folder(root), os.path.join(root, "images")
    if not labels or not images:
        raise DatasetError(
            f"{root!r} has no folders 'images' and 'labels': give the folder of the label maps, and the "
            "one of the images with --images"
        )
    part, split = split_folder(labels, source.split), source.split
    if part:
        name = os.path.basename(part)
        labels, images, split = part, split_folder(images, name) or os.path.join(images, name), split or name
    classes = source.classes
    if classes is None:
        above = [labels, os.path.dirname(labels), os.path.dirname(os.path.dirname(labels)), root]
        found = find_class_names(above)
        classes = tuple(found) if found is not None else None
    return replace(source, path=labels, images=images, split=split, classes=classes)


def _folder(source: Source) -> Source:
    """The folder of one split where there are several; its classes are those of ``classes.txt``, or of all splits."""
    folders = class_folders(source.path)
    listed = source.classes or find_class_names([source.path])
    if not folders or not set(folders) <= set(SPLIT_FOLDERS):
        return replace(source, classes=tuple(listed) if listed else None)
    part = split_folder(source.path, source.split)
    if not part:
        raise DatasetError(f"{source.path!r} has no folder {source.split!r} (it has: {', '.join(folders)})")
    roots = [os.path.join(source.path, name) for name in folders]
    classes = listed or sorted({name for root in roots for name in class_folders(root)})
    split = source.split or os.path.basename(part)
    return replace(source, path=part, split=split, classes=tuple(classes))


_COMPLETE: Mapping[str, Callable[[Source], Source]] = {
    "coco": _coco,
    "coco_panoptic": _coco_panoptic,
    "voc": _voc,
    "yolo": _yolo,
    "sem_seg": _sem_seg,
    "folder": _folder,
}


def _read_coco(source: Source, report: DefectReport) -> ReadDataset | None:
    from .coco import read_coco

    return read_coco(source.path, source.images, report)


def _read_coco_panoptic(source: Source, report: DefectReport) -> ReadDataset | None:
    from .coco_panoptic import read_coco_panoptic

    return read_coco_panoptic(source.path, source.images, source.labels, report, with_entries=True)


def _read_sem_seg(source: Source, report: DefectReport) -> ReadDataset | None:
    end = label_map_end(source.path, source.images, MAP_SUFFIXES, IMAGE_SUFFIXES)
    ends = MAP_SUFFIXES if end in ("", *MAP_SUFFIXES) else end
    read = read_sem_seg(source.path, source.images, report, ends, IMAGE_SUFFIXES)
    if read is not None:
        names = {"stuff_classes": list(source.classes)} if source.classes is not None else {}
        read.metadata |= {**names, "ignore_label": IGNORE_LABEL}
    return read


_READ: Mapping[str, Callable[[Source, DefectReport], ReadDataset | None]] = {
    "coco": _read_coco,
    "coco_panoptic": _read_coco_panoptic,
    "voc": lambda source, report: read_voc(source.path, source.split, source.classes, report),
    "yolo": lambda source, report: read_yolo(source.path, source.split or "train", report, source.images or None),
    "sem_seg": _read_sem_seg,
    "folder": lambda source, report: read_image_folder(source.path, source.classes, report),
}


def _image_folder(json_file: str, split: str) -> str:
    """The folder near an annotation file that holds an image it names; the file's own if it names none."""
    folder = os.path.dirname(json_file) or os.curdir
    word = os.path.splitext(os.path.basename(json_file))[0].rpartition("_")[2]
    places = [
        os.path.join(above, *parts)
        for above in (folder, os.path.join(folder, os.pardir))
        for parts in (("images", word), (word,), ("images", split), (split,), ("images",), ())
    ]
    names = _first_file_names(json_file)
    if not names:
        return folder
    for place in places:
        if any(os.path.isfile(os.path.join(place, _below(name))) for name in names):
            return os.path.normpath(place)
    raise DatasetError(
        f"the folder of the images of {json_file!r} (the first one is {names[0]!r}) is not found near it; give it with "
        "--images"
    )


def _first_file_names(json_file: str) -> list[str]:
    """A few of the names of images in an annotation file."""
    names: list[str] = []
    for match in _FILE_NAME.finditer(mapped(json_file)):
        try:
            name = str(json.loads(match.group(1)))
        except ValueError:
            continue
        if name.lower().endswith(IMAGE_SUFFIXES) and "\0" not in name:
            names.append(name)
        if len(names) == 200:
            break
    return names


def _below(name: str) -> str:
    """A name as it may be relative to some folder; of an absolute one the last part."""
    text = with_slashes(name)
    return text.rpartition("/")[2] if os.path.isabs(text) or ":" in text else text
