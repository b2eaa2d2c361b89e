"""Classification: a folder with a folder of images for each class."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from typing import Any

from drivetrain.data.images import UnreadableImageError
from drivetrain.data.paths import FolderIndex
from drivetrain.errors import did_you_mean

from .defects import Defect, DefectReport, Severity
from .entry import ReadDataset, checked_path, fill_metadata, finish_report, register_dataset
from .folder_files import IMAGE_SUFFIXES, image_size, is_passed_over, list_files

__all__ = ["class_folders", "load_image_folder", "read_image_folder", "register_image_folder"]

logger = logging.getLogger(__name__)


def load_image_folder(
    root: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    *,
    dataset_name: str | None = None,
    max_examples: int = 5,
) -> list[dict[str, Any]]:
    """The records of images sorted into one folder for each class, by class and name.

    A record has ``file_name``, ``image_id`` (the name inside ``root``), ``height``, ``width`` (from the image's header)
    and ``class_id``. Images lie in a class's folder or in folders below it.

    Args:
        root: the folder of the classes' folders.
        class_names: the classes in order; None: all folders, in alphabetical order. Give them for a split that may lack
            a class.
        dataset_name: when given, the class names go to its metadata.
        max_examples: how many defects of each kind an error or warning tells word for word.

    Raises:
        DatasetError: there is no image, or a folder that is none of the classes.
    """
    report = DefectReport(os.fspath(root), max_examples)
    read = finish_report(report, read_image_folder(root, class_names, report), logger)
    fill_metadata(dataset_name, read.metadata, report.source)
    return read.records


def register_image_folder(name: str, root: str | os.PathLike[str], class_names: Sequence[str] | None = None) -> None:
    """Register images sorted into one folder for each class. They are listed when the records are asked for.

    Raises:
        DatasetError: the name is taken, or an argument has the wrong type.
    """
    folder = checked_path(root, "root", name)
    load = functools.partial(load_image_folder, folder, class_names, dataset_name=name)
    metadata: dict[str, Any] = {"image_root": folder, "evaluator_type": "classification"}
    if class_names is not None:
        metadata["thing_classes"] = list(class_names)
    register_dataset(name, load, metadata)


def read_image_folder(
    root: str | os.PathLike[str], class_names: Sequence[str] | None, report: DefectReport
) -> ReadDataset | None:
    """Read as :func:`load_image_folder` does; every defect goes to ``report``.

    Returns:
        None when there is nothing to read. The records may only be used when the report has no errors.
    """
    folder = FolderIndex(root)
    try:
        found = class_folders(root)
    except OSError as err:
        report.error("missing folder", f"the folder {folder.root!r} cannot be listed: {err.strerror or err}")
        return None
    names = found if class_names is None else list(class_names)
    for other in [name for name in found if name not in names]:
        hint = did_you_mean(other, names) or f" ({', '.join(names[:10])}{', ...' if len(names) > 10 else ''})"
        report.error("unknown class", f"the folder {folder.path(other)!r} is none of the {len(names)} classes{hint}")
    loose = list_files(folder.root, IMAGE_SUFFIXES, recursive=False)
    where = "lies in no class's folder"
    report.add_many("image without a class", Severity.DROPPED, range(len(loose)), lambda i: (repr(loose[i]), where))
    records = []
    for label, name in enumerate(names):
        for image in list_files(folder.path(name), IMAGE_SUFFIXES) if name in found else []:
            record = _record(folder, f"{name}/{image}", report)
            if record is not None:
                records.append({**record, "class_id": label})
    if not records and not report.has_errors:
        text = f"the folder {folder.root!r} holds no folder with images; a class is a folder with its images"
        report.error("no image", text)
        return None
    return ReadDataset(records, folder.root, {"thing_classes": names})


def class_folders(root: str | os.PathLike[str]) -> list[str]:
    """The folders in ``root`` that may be classes, in alphabetical order; see `is_passed_over` for those that are none.

    A link to a folder is one too.

    Raises:
        OSError: ``root`` cannot be listed.
    """
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_passed_over(entry.name))


def _record(folder: FolderIndex, name: str, report: DefectReport) -> dict[str, Any] | None:
    problem = folder.problem(name)
    if problem is not None:
        report.error("unsafe file name", f"{name!r} in {folder.root!r} {problem[1]}")
        return None
    path = folder.path(name)
    try:
        height, width = image_size(path)
    except UnreadableImageError as err:
        report.add(Defect("unreadable image", "", str(err), Severity.DROPPED))
        return None
    return {"file_name": path, "image_id": name, "height": height, "width": width}
