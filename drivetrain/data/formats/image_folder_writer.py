"""Classification datasets as folders: ``SPLIT/CLASS/IMAGE``, and ``classes.txt``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from drivetrain.errors import OutputError

from .class_names import CLASSES_FILE
from .entry import ReadDataset
from .new_folder import put_image
from .writing import Losses, class_names

__all__ = ["write_image_folder"]


def write_image_folder(folder: Path, splits: Mapping[str, ReadDataset], image_files: str) -> Losses:
    """Write every split of a classification dataset; every split has a folder for each class.

    Args:
        folder: exists, and is empty.
        splits: name -> dataset.
        image_files: ``"copy"`` or ``"link"``.

    Returns:
        What was lost: nothing.

    Raises:
        OutputError: ``image_files`` is ``"none"``, which would write nothing, or a class has a name that no folder can
            have.
    """
    if image_files == "none":
        raise OutputError("a folder of images for each class is nothing without the images: copy or link them")
    for split, read in splits.items():
        names = class_names(read)
        for name in names:
            if name in (os.curdir, os.pardir) or {"/", os.sep, "\0"} & set(name):
                raise OutputError(f"the class {name!r} cannot be a folder's name: give it another one")
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        for record in read.records:
            below = os.path.relpath(record["file_name"], os.path.join(read.image_root, names[record["class_id"]]))
            put_image(record["file_name"], folder / split / names[record["class_id"]] / below, image_files)
    classes = class_names(next(iter(splits.values())))
    (folder / CLASSES_FILE).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    return Losses()
