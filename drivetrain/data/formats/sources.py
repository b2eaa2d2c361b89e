"""Where a dataset lies, found from one path, and its records whatever its format."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drivetrain.errors import DatasetError, did_you_mean

from .class_names import find_class_names
from .defects import DefectReport
from .entry import ReadDataset
from .folder_files import IMAGE_SUFFIXES, list_files
from .image_folder import class_folders, read_image_folder
from .known import FORMATS
from .sem_seg import IGNORE_LABEL, read_sem_seg
from .voc import read_voc, voc_splits
from .yolo import read_yolo
from .yolo_config import YOLO_SPLITS

__all__ = ["Source", "find_source", "read_source"]

_LABEL_FOLDERS = ("labels", "masks", "annotations", "gt", "SegmentationClass")
_MAP_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
_SPLIT_FOLDERS = (*YOLO_SPLITS, "valid", "validation")
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
        """The split's name, taken from the annotation file's when no other is known; ``"train"`` if there is none."""
        return self.split or _split_in(self.path) or "train"


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
    kind = format or _recognized(name, images, split)
    source = Source(kind, name, images or "", labels or "", split, tuple(classes) if classes is not None else None)
    return _COMPLETE[kind](source)


def read_source(source: Source, report: DefectReport) -> ReadDataset | None:
    """The records of a dataset; every defect goes to ``report``.

    Returns:
        None when there is nothing to read. The records may only be used when the report has no errors.
    """
    return _READ[source.format](source, report)


def _recognized(path: str, images: str | None, split: str | None) -> str:
    """The format of what lies at ``path``."""
    if os.path.isfile(path):
        suffix = os.path.splitext(path)[1].lower()
        if suffix == ".json":
            return "coco_panoptic" if _contains(path, b'"segments_info"') else "coco"
        if suffix in (".yaml", ".yml"):
            return "yolo"
        raise DatasetError(f"{path!r} is no dataset: give a .json, a data.yaml, or a folder")
    if _find(path, ("data.yaml", "dataset.yaml", "data.yml")):
        return "yolo"
    if os.path.isdir(os.path.join(path, "Annotations")) or list_files(path, (".xml",), recursive=False):
        return "voc"
    if list_files(path, (".json",), recursive=False):
        return _recognized(_json_file(path, split), images, split)
    if images or _label_folder(path):
        return "sem_seg"
    if any(list_files(os.path.join(path, name), IMAGE_SUFFIXES) for name in class_folders(path)):
        return "folder"
    raise DatasetError(
        f"{path!r} holds no dataset of a known format (looked for: an annotation file, data.yaml, Annotations, images "
        "and labels, a folder of images for each class); --format says which it is"
    )


def _coco(source: Source) -> Source:
    path = _json_file(source.path, source.split)
    return replace(source, path=path, images=source.images or _image_folder(path, source.split_name))


def _coco_panoptic(source: Source) -> Source:
    source = _coco(source)
    folder, stem = os.path.split(os.path.splitext(source.path)[0])
    labels = source.labels or _find(folder, (stem, os.path.join(os.pardir, stem)))
    if not labels:
        raise DatasetError(f"the folder of the PNGs of {source.path!r} is not found; give it with --labels")
    return replace(source, labels=labels)


def _voc(source: Source) -> Source:
    splits = voc_splits(source.path)
    split = (
        source.split or next((s for s in ("trainval", *YOLO_SPLITS) if s in splits), None) or next(iter(splits), None)
    )
    return replace(source, split=split)


def _yolo(source: Source) -> Source:
    path = source.path
    if os.path.isdir(path):
        found = _find(path, ("data.yaml", "dataset.yaml", "data.yml"))
        if not found:
            raise DatasetError(f"there is no data.yaml in {path!r}")
        path = found
    return replace(source, path=path, split=source.split or "train")


def _sem_seg(source: Source) -> Source:
    root, labels, images = source.path, source.labels or source.path, source.images
    if not source.labels and not images:
        labels, images = _label_folder(root), os.path.join(root, "images")
    if not labels or not images:
        raise DatasetError(
            f"{root!r} has no folders 'images' and '{_LABEL_FOLDERS[0]}': give the folder of the label maps, and the "
            "one of the images with --images"
        )
    split = source.split or next((s for s in _SPLIT_FOLDERS if os.path.isdir(os.path.join(labels, s))), None)
    if split and os.path.isdir(os.path.join(labels, split)):
        labels, images = os.path.join(labels, split), os.path.join(images, split)
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
    if not folders or not set(folders) <= set(_SPLIT_FOLDERS):
        return replace(source, classes=tuple(listed) if listed else None)
    split = source.split or next(s for s in _SPLIT_FOLDERS if s in folders)
    if split not in folders:
        raise DatasetError(f"{source.path!r} has no folder {split!r} (it has: {', '.join(folders)})")
    roots = [os.path.join(source.path, name) for name in folders]
    classes = listed or sorted({name for root in roots for name in class_folders(root)})
    return replace(source, path=os.path.join(source.path, split), split=split, classes=tuple(classes))


_COMPLETE: Mapping[str, Callable[[Source], Source]] = {
    "coco": _coco,
    "coco_panoptic": _coco_panoptic,
    "voc": _voc,
    "yolo": _yolo,
    "sem_seg": _sem_seg,
    "folder": _folder,
}


def _read_coco(source: Source, report: DefectReport) -> ReadDataset | None:
    from .coco import make_records
    from .coco_check import check_coco
    from .coco_file import paused_gc

    with paused_gc():
        columns = check_coco(source.path, source.images, report)
        if columns is None or report.has_errors:
            return None
        records = make_records(columns, source.images, ("difficult",))
    categories = columns.categories
    found = {
        "thing_classes": categories.names,
        "thing_dataset_id_to_contiguous_id": categories.index,
        "keypoint_names": categories.keypoint_names,
        "keypoint_flip_map": categories.keypoint_flip_map,
    }
    return ReadDataset(records, source.images, {key: value for key, value in found.items() if value is not None})


def _read_coco_panoptic(source: Source, report: DefectReport) -> ReadDataset | None:
    from .coco_panoptic import read_coco_panoptic

    return read_coco_panoptic(source.path, source.images, source.labels, report)


def _read_sem_seg(source: Source, report: DefectReport) -> ReadDataset | None:
    read = read_sem_seg(source.path, source.images, report, _MAP_SUFFIXES, IMAGE_SUFFIXES)
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


def _json_file(path: str, split: str | None) -> str:
    """The annotation file that ``path`` is or holds: the only one, or the only one with the split in its name."""
    if os.path.isfile(path):
        return path
    files = list_files(path, (".json",), recursive=False)
    chosen = [name for name in files if _split_in(name) == split] if split and len(files) > 1 else files
    if len(chosen) == 1:
        return os.path.join(path, chosen[0])
    listed = f" ({', '.join(files[:8])}), or the split (--split)" if files else ""
    raise DatasetError(f"{path!r} holds {len(files)} annotation files: give one of them{listed}")


def _split_in(path: str) -> str:
    """The split that a file's name tells, or ``""``."""
    word = re.search(r"(?:^|[_.-])(train|val|valid|test)(?:\d|[_.-]|$)", os.path.basename(path))
    return word.group(1) if word else ""


def _image_folder(json_file: str, split: str) -> str:
    """The folder near an annotation file that holds an image it names."""
    folder = os.path.dirname(json_file) or os.curdir
    word = os.path.splitext(os.path.basename(json_file))[0].rpartition("_")[2]
    places = [
        os.path.join(above, *parts)
        for above in (folder, os.path.join(folder, os.pardir))
        for parts in (("images", word), (word,), ("images", split), (split,), ("images",), ())
    ]
    names = _first_file_names(json_file)
    for place in places:
        if any(os.path.isfile(os.path.join(place, name)) for name in names):
            return os.path.normpath(place)
    raise DatasetError(f"the folder of the images of {json_file!r} is not found near it; give it with --images")


def _first_file_names(json_file: str) -> list[str]:
    """A few of the names of images in an annotation file."""
    names: list[str] = []
    for match in _FILE_NAME.finditer(_mapped(json_file)):
        try:
            name = str(json.loads(match.group(1)))
        except ValueError:
            continue
        if name.lower().endswith(IMAGE_SUFFIXES) and "\0" not in name:
            names.append(name)
        if len(names) == 200:
            break
    return names


def _contains(path: str, text: bytes) -> bool:
    return bool(_mapped(path).find(text) >= 0)


def _mapped(path: str) -> Any:
    """The content of a file, without reading what is not looked at."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _find(folder: str, names: Sequence[str]) -> str:
    """The path of the first of ``names`` that is in ``folder``, or ``""``."""
    paths = [os.path.normpath(os.path.join(folder, name)) for name in names]
    return next((path for path in paths if os.path.exists(path)), "")


def _label_folder(root: str) -> str:
    """The folder of label maps beside a folder ``images``, or ``""``."""
    if not os.path.isdir(os.path.join(root, "images")):
        return ""
    found = (_find(root, (name,)) for name in _LABEL_FOLDERS)
    return next((path for path in found if path and list_files(path, _MAP_SUFFIXES)), "")
