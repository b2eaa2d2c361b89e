"""A text file with the name of one class on each line, which gives the classes their order."""

from __future__ import annotations

import os
from collections.abc import Sequence

from drivetrain.errors import DatasetError

from .defects import first_repeated
from .folder_files import read_lines

__all__ = ["CLASSES_FILE", "find_class_names", "read_class_names", "read_label_colours"]

CLASSES_FILE = "classes.txt"
"""The usual name of such a file."""

_LIMIT = 1 << 24  # bytes


def read_class_names(path: str | os.PathLike[str]) -> list[str]:
    """The names in a file; empty lines are passed over.

    Raises:
        DatasetError: the file cannot be read, has no name, or one twice.
    """
    names = [line for line in read_lines(path, _LIMIT) if line]
    if not names:
        raise DatasetError(f"{os.fspath(path)!r} names no class; it must have the name of one class on each line")
    if (twice := first_repeated(names)) is not None:
        raise DatasetError(f"{os.fspath(path)!r} names the class {twice!r} twice")
    return names


def read_label_colours(path: str | os.PathLike[str]) -> list[str]:
    """The names in a ``labelmap.txt`` of CVAT, of which a line is ``name:red,green,blue:parts:actions``.

    Raises:
        DatasetError: the file cannot be read.
    """
    return [line.split(":")[0] for line in read_lines(path, _LIMIT) if line and not line.startswith("#")]


def find_class_names(folders: Sequence[str | os.PathLike[str]]) -> list[str] | None:
    """The names in the ``classes.txt`` of the first folder that has one; None when none has.

    Raises:
        DatasetError: as :func:`read_class_names`.
    """
    paths = [os.path.join(folder, CLASSES_FILE) for folder in folders]
    path = next((path for path in paths if os.path.exists(path)), None)
    return None if path is None else read_class_names(path)
