"""What format a dataset has, and where its annotation files are, from how its folders look."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from drivetrain.errors import DatasetError

from .class_names import find_class_names
from .folder_files import IMAGE_SUFFIXES, is_passed_over, list_files, read_lines
from .image_folder import class_folders
from .voc import annotation_folder
from .yolo import label_name
from .yolo_config import YOLO_SPLITS

__all__ = [
    "MAP_SUFFIXES",
    "SPLIT_FOLDERS",
    "find_path",
    "json_file",
    "label_folder",
    "mapped",
    "recognized",
    "refuse_bare_yolo",
    "split_folder",
    "split_in",
    "yolo_file",
]

MAP_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
"""Ends of the names of label maps."""

SPLIT_FOLDERS = (*YOLO_SPLITS, "valid", "validation")
"""Names of folders that hold a split."""

_LABEL_FOLDERS = ("labels", "masks", "annotations", "gt", "SegmentationClass")
_NO_CLASSES = {"images", "JPEGImages"}
_SPLIT_WORD = re.compile(r"(?:^|[_.-])(train|val|valid|validation|test)(?:\d|[_.-]|$)")
_SOME_FOLDERS, _SOME_IMAGES = 50, 5
_LARGEST_LABELS = 1 << 20  # bytes of a label file


def recognized(path: str, images: str | None, split: str | None) -> str:
    """The format of what lies at ``path``.

    Args:
        path: a file or folder that exists.
        images: the folder of the images, if it is known.
        split: the split that is wanted, if one is.

    Raises:
        DatasetError: it is no dataset of a known format.
    """
    if os.path.isfile(path):
        suffix = os.path.splitext(path)[1].lower()
        if suffix == ".json":
            return "coco_panoptic" if mapped(path).find(b'"segments_info"') >= 0 else "coco"
        if suffix in (".yaml", ".yml"):
            return "yolo"
        raise DatasetError(f"{path!r} is no dataset: give a .json, a data.yaml, or a folder")
    if yolo_file(path):
        return "yolo"
    if annotation_folder(path) or list_files(path, (".xml",), recursive=False):
        return "voc"
    if _json_files(path):
        return recognized(json_file(path, split), images, split)
    if images or label_folder(path):
        return "sem_seg"
    part = split_folder(path, split)
    if part and (_json_files(part) or list_files(part, (".xml",), recursive=False)):
        return recognized(part, images, None)
    refuse_bare_yolo(path)
    if _has_classes(path):
        return "folder"
    raise DatasetError(
        f"{path!r} holds no dataset of a known format (looked for: an annotation file, data.yaml, Annotations, images "
        "and labels, a folder of images for each class); --format says which it is"
    )


def yolo_file(folder: str) -> str:
    """The path of the ``data.yaml`` in a folder, or ``""``."""
    return find_path(folder, ("data.yaml", "dataset.yaml", "data.yml"))


def json_file(path: str, split: str | None) -> str:
    """The annotation file that ``path`` is or holds: the only one, or the only one with the split in its name.

    In a folder it is looked for there, in ``annotations``, and in the split's own folder.

    Raises:
        DatasetError: there is none, or there are several.
    """
    if os.path.isfile(path):
        return path
    files = _json_files(path)
    if not files and (part := split_folder(path, split)):
        path = part
        files = _json_files(path)
    same = [name for name in files if split_in(name) == _plain_split(split)] if split and len(files) > 1 else files
    if len(same) == 1:
        return os.path.join(path, same[0])
    listed = f" ({', '.join(files[:8])}), or the split (--split)" if files else ""
    raise DatasetError(f"{path!r} holds {len(files)} annotation files: give one of them{listed}")


def split_folder(path: str, split: str | None) -> str:
    """The folder of a split in ``path``, by any of its names (None: of the first there is); ``""`` for none."""
    wanted = [name for name in SPLIT_FOLDERS if split is None or _plain_split(name) == _plain_split(split)]
    return find_path(path, wanted)


def split_in(path: str) -> str:
    """The split that the name of a file or folder tells, or else that of the folder that it is in; ``""`` for none."""
    word = _SPLIT_WORD.search(os.path.basename(path))
    folder = os.path.basename(os.path.dirname(path))
    return _plain_split(word.group(1) if word else folder if folder in SPLIT_FOLDERS else "")


def label_folder(root: str) -> str:
    """The folder of label maps beside a folder ``images``, or ``""``."""
    if not os.path.isdir(os.path.join(root, "images")):
        return ""
    found = (find_path(root, (name,)) for name in _LABEL_FOLDERS)
    return next((path for path in found if path and list_files(path, MAP_SUFFIXES)), "")


def find_path(folder: str, names: Sequence[str]) -> str:
    """The path of the first of ``names`` that is in ``folder``, or ``""``."""
    paths = [os.path.normpath(os.path.join(folder, name)) for name in names]
    return next((path for path in paths if os.path.exists(path)), "")


def mapped(path: str) -> Any:
    """The content of a file, without reading what is not looked at."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _json_files(folder: str) -> list[str]:
    """The names of the JSON files with images in a folder, or, if there are none, in its folder ``annotations``."""
    for below in ("", "annotations"):
        names = list_files(os.path.join(folder, below), (".json",), recursive=False)
        paths = [os.path.join(below, name) for name in names]
        found = [path for path in paths if mapped(os.path.join(folder, path)).find(b'"images"') >= 0]
        if found:
            return found
    return []


def _plain_split(name: str | None) -> str:
    """One name for ``val``, ``valid`` and ``validation``."""
    return "val" if name in ("valid", "validation") else name or ""


def _has_classes(path: str) -> bool:
    """Whether a folder has folders of images for classes, in itself or in its splits' folders."""
    names = class_folders(path)
    if names and set(names) <= set(SPLIT_FOLDERS):
        return any(_has_classes(os.path.join(path, name)) for name in names)
    return not _NO_CLASSES & set(names) and any(list_files(os.path.join(path, n), IMAGE_SUFFIXES) for n in names)


def refuse_bare_yolo(path: str) -> None:
    """Tell how to make labels of the YOLO tools known that lie there without a ``data.yaml``.

    Raises:
        DatasetError: there are such labels.
    """
    for name in _some_images(path):
        label = label_name(name)
        if _is_yolo_label(os.path.join(path, label)):
            names = ", ".join(find_class_names([path]) or ("FIRST CLASS", "SECOND CLASS"))
            raise DatasetError(
                f"{path!r} holds labels of YOLO ({label!r}) but no data.yaml: write that file, with the lines "
                f"'train: {os.path.dirname(name) or os.curdir}' and 'names: [{names}]'"
            )


def _is_yolo_label(path: str) -> bool:
    """Whether a file begins with a line of five numbers or more."""
    try:
        words = next((line for line in read_lines(path, _LARGEST_LABELS) if line), "").split()
        return len([float(word) for word in words]) >= 5
    except (DatasetError, ValueError):
        return False


def _some_images(path: str) -> Iterator[str]:
    """A few images of each of some folders below ``path``, relative to it."""
    for number, (folder, folders, _) in enumerate(os.walk(path)):
        folders[:] = sorted(name for name in folders if not is_passed_over(name))
        for name in list_files(folder, IMAGE_SUFFIXES, recursive=False)[:_SOME_IMAGES]:
            yield os.path.relpath(os.path.join(folder, name), path).replace(os.sep, "/")
        if number == _SOME_FOLDERS:
            return
