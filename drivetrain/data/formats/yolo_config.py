"""The ``data.yaml`` of a YOLO dataset: its classes, and where the images of each split are.

Keys as in the files of the YOLO tools (https://docs.ultralytics.com/datasets/detect/): ``path``, ``train``, ``val``,
``test``, ``names``, ``nc``, ``kpt_shape``, ``flip_idx``, ``kpt_names``. Images are looked for inside the file's folder
alone, unless another one is named: the file comes from somewhere else and may point anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from drivetrain.config.yaml_text import parse_yaml
from drivetrain.errors import ConfigError, DatasetError

from .defects import Defect, DefectReport, Severity, first_repeated
from .folder_files import read_bytes

__all__ = ["YOLO_SPLITS", "YoloConfig", "read_yolo_config"]

YOLO_SPLITS = ("train", "val", "test")

_LIMIT = 1 << 20  # bytes
_MOST_CLASSES = 100_000
_MOST_KEYPOINTS = 10_000

T = TypeVar("T")


@dataclass
class YoloConfig:
    """What a ``data.yaml`` says.

    Attributes:
        path: the file.
        root: the folder that everything must lie in.
        names: the classes in order.
        splits: split -> folders or lists of images as the file names them; only those it has.
        base: the file's ``path``, relative to ``root``; ``""`` when it gives none.
        keypoints: (K, 2 or 3): how many keypoints an object has, and how many numbers each; None without keypoints.
        flip: for each keypoint the index of its counterpart in a mirrored image; None when it is not given.
        keypoint_names: of the K keypoints; None when they are not given.
    """

    path: str
    root: str
    names: list[str]
    splits: dict[str, list[str]] = field(default_factory=dict)
    base: str = ""
    keypoints: tuple[int, int] | None = None
    flip: list[int] | None = None
    keypoint_names: list[str] | None = None


def read_yolo_config(
    data_yaml: str | os.PathLike[str], report: DefectReport, root: str | os.PathLike[str] | None = None
) -> YoloConfig | None:
    """Read a ``data.yaml``; what is wrong goes to ``report``.

    Args:
        data_yaml: the file.
        report: filled.
        root: the folder that images must lie in; None: the file's own.

    Returns:
        None when it cannot be used at all.
    """
    path = os.fspath(data_yaml)

    def checked(otherwise: T, read: Callable[..., T], *values: Any) -> T:
        """What ``read`` makes of values of the file; where it cannot, that is reported."""
        try:
            return read(*values)
        except DatasetError as err:
            report.error("malformed data.yaml", f"{path}: {err}")
            return otherwise

    data = _read(path, report)
    nothing: list[str] = []
    names = checked(nothing, _names, data) if data is not None else nothing
    if data is None or not names:
        return None
    config = YoloConfig(path, os.fspath(root) if root is not None else os.path.dirname(path) or os.curdir, names)
    present = [split for split in YOLO_SPLITS if data.get(split)]
    config.splits = {split: checked(nothing, _places, data[split], split) for split in present}
    config.base = checked("", _base, data.get("path"), config.root)
    config.keypoints = checked(None, _keypoints, data.get("kpt_shape"))
    config.flip = checked(None, _flip, data.get("flip_idx"), config.keypoints)
    config.keypoint_names = checked(None, _keypoint_names, data.get("kpt_names"), config.keypoints)
    if data.get("path") and not config.base and not _is_same(data["path"], config.root):
        text = f"{path}: 'path' is {data['path']!r}, no folder inside {config.root!r}, which is taken itself"
        report.add(Defect("other path", "", text, Severity.FIXED))
    return config


def _read(path: str, report: DefectReport) -> Mapping[Any, Any] | None:
    try:
        document = parse_yaml(read_bytes(path, _LIMIT).decode("utf-8-sig"), path)
    except UnicodeDecodeError:
        report.error("unreadable data.yaml", f"{path!r} is not a text file (UTF-8)")
        return None
    except (DatasetError, ConfigError) as err:
        report.error("unreadable data.yaml", str(err))
        return None
    for line, key, message in document.problems:
        report.error("malformed data.yaml", f"{path}:{line}: {key} {message}")
    if not isinstance(document.data, Mapping):
        report.error("malformed data.yaml", f"{path} must have keys such as 'names' and 'train'")
        return None
    return document.data


def _names(data: Mapping[Any, Any]) -> list[str]:
    """The classes: a list, or a mapping of 0, 1, ... to names; with their number alone, names are made up."""
    names, count = data.get("names"), data.get("nc")
    if names is None and type(count) is int and 0 < count <= _MOST_CLASSES:
        return [f"class {i}" for i in range(count)]
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise DatasetError(f"the keys of 'names' must be the {len(names)} numbers from 0 on")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, (list, tuple)) or not names or any(type(n) not in (str, int, float) for n in names):
        raise DatasetError(
            f"'names' must be a list of the classes, or a mapping of 0, 1, ... to them, not {str(names)[:60]!r}; put "
            "words such as no and yes in quotes"
        )
    texts = [str(name) for name in names]
    if (twice := first_repeated(texts)) is not None:
        raise DatasetError(f"'names' has {twice!r} twice")
    if count is not None and count != len(texts):
        raise DatasetError(f"'nc' is {count!r}, but 'names' has {len(texts)} classes")
    return texts


def _places(value: Any, split: str) -> list[str]:
    places = [value] if isinstance(value, str) else value
    if isinstance(places, list) and all(isinstance(place, str) and place for place in places):
        return list(places)
    raise DatasetError(f"{split!r} must be a folder, a list file or several of them, not {str(value)[:60]!r}")


def _base(value: Any, root: str) -> str:
    """The file's ``path`` relative to the root; ``""`` for the root itself and for what is no folder inside it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DatasetError(f"'path' must be a folder, not {str(value)[:60]!r}")
    top = os.path.abspath(root)
    below = os.path.relpath(os.path.join(top, value), top).replace(os.sep, "/")
    usable = below.split("/")[0] not in (os.curdir, os.pardir) and os.path.isdir(os.path.join(top, below))
    return below if usable else ""


def _is_same(value: Any, root: str) -> bool:
    return isinstance(value, str) and os.path.abspath(os.path.join(root, value)) == os.path.abspath(root)


def _keypoints(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(type(n) is int for n in value):
        count, size = value
        if 0 < count <= _MOST_KEYPOINTS and size in (2, 3):
            return count, size
    raise DatasetError(f"'kpt_shape' must be [number of keypoints, 2 or 3], not {str(value)[:60]!r}")


def _flip(value: Any, keypoints: tuple[int, int] | None) -> list[int] | None:
    if value is None or keypoints is None:
        return None
    whole = isinstance(value, (list, tuple)) and all(type(i) is int for i in value)
    if not whole or sorted(value) != list(range(keypoints[0])):
        raise DatasetError(f"'flip_idx' must hold each of 0 to {keypoints[0] - 1} once, not {str(value)[:60]!r}")
    return list(value)


def _keypoint_names(value: Any, keypoints: tuple[int, int] | None) -> list[str] | None:
    """The names of the keypoints: a list, or one for each class, which must all be the same."""
    if value is None or keypoints is None:
        return None
    lists = list(value.values()) if isinstance(value, Mapping) else [value]
    texts = lists and isinstance(lists[0], list) and all(isinstance(name, str) for name in lists[0])
    if not texts or any(other != lists[0] for other in lists) or len(set(lists[0])) != keypoints[0]:
        raise DatasetError(
            f"'kpt_names' must hold the {keypoints[0]} names of the keypoints, the same for every class, not "
            f"{str(value)[:60]!r}"
        )
    return list(lists[0])
