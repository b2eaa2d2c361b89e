"""The dataset formats that a configuration can name, with the keys that each has.

An entry of ``DATASETS.REGISTER`` is ``name: {format: FORMAT, KEY: VALUE, ...}``. This table says which keys there are,
and how the dataset is registered. In any format, ``made_by`` is the command that makes the files, told when they are
missing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drivetrain.data.catalog import Metadata
from drivetrain.errors import DatasetError, did_you_mean

from .class_names import read_class_names
from .folder_files import IMAGE_SUFFIXES

__all__ = ["FORMATS", "KnownFormat", "read_entry"]


@dataclass(frozen=True)
class KnownFormat:
    """A format by its name.

    Attributes:
        register: called as ``register(dataset_name, values)``.
        files: the keys that an entry must have, all of them paths, and what each is.
        told: key -> the name under which the dataset's metadata has its value; by these a dataset that is registered
            already is recognised as the same.
        options: the keys that it may have, with what is taken without them; None: what the files say.
    """

    register: Callable[[str, Mapping[str, Any]], None]
    files: Mapping[str, str]
    told: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)

    def told_by(self, metadata: Metadata) -> dict[str, Any]:
        """The values with which a dataset of this metadata was registered."""
        return {key: metadata.get(name) for key, name in self.told.items()}

    def is_same(self, values: Mapping[str, Any], metadata: Metadata) -> bool:
        """Whether the metadata is that of a dataset registered with these values."""
        told = self.told_by(metadata)
        return all(values[key] == told[key] for key in told if key in self.files or values[key])


def read_entry(place: str, entry: Any) -> tuple[KnownFormat, dict[str, Any]]:
    """The format of an entry of ``DATASETS.REGISTER`` and its checked values, by lower-case keys, ``~`` resolved.

    Args:
        place: where the entry is, for messages.
        entry: the entry.

    Raises:
        DatasetError: an unknown format or key, or a key that is missing or of the wrong type.
    """
    if not isinstance(entry, Mapping):
        raise DatasetError(f"{place} must be like {{format: coco, json: FILE, images: FOLDER}}, not {entry!r}")
    values = {str(key).lower(): value for key, value in entry.items()}
    name = values.pop("format", "coco")
    if not isinstance(name, str) or name.lower() not in FORMATS:
        hint = did_you_mean(str(name), FORMATS)
        raise DatasetError(f"{place} has the unknown format {name!r}{hint} (known: {', '.join(FORMATS)})")
    known = FORMATS[name.lower()]
    keys = (*known.files, *known.options, "made_by")
    for key in values:
        if key not in keys:
            hint = did_you_mean(key, keys)
            raise DatasetError(f"{place} has the unknown key {key!r}{hint} (known: format, {', '.join(keys)})")
    for key, meaning in known.files.items():
        if not isinstance(values.get(key), (str, os.PathLike)) or not os.fspath(values[key]):
            given = f"is {values[key]!r}" if key in values else "is missing"
            raise DatasetError(f"{place}.{key} {given}; give the path of the {meaning}")
    read = {key: _read_value(key, f"{place}.{key}", value) for key, value in values.items() if value is not None}
    return known, {**known.options, **read}


def _read_value(key: str, place: str, value: Any) -> Any:
    read: Callable[[str, Any], Any] = _READ.get(key, _path)
    return read(place, value)


def _path(place: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise DatasetError(f"{place} is {value!r}; give a path")
    return os.path.expanduser(os.fspath(value))


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise DatasetError(f"{place} is {value!r}; give a text")
    return value


def _whole_number(place: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise DatasetError(f"{place} is {value!r}; give a whole number of 0 or more")
    return value


def _classes(place: str, value: Any) -> list[str]:
    """A list of names, or a file with one on each line."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(name, str) and name for name in value):
        return list(value)
    if isinstance(value, str) and value:
        return read_class_names(os.path.expanduser(value))
    raise DatasetError(f"{place} is {value!r}; give the names of the classes, or a file with one on each line")


_READ: Mapping[str, Callable[[str, Any], Any]] = {
    "split": _text,
    "year": _whole_number,
    "ignore_label": _whole_number,
    "classes": _classes,
    "image_ext": _text,
    "label_ext": _text,
    "made_by": _text,
}
"""Keys that are not paths, and how their values are read."""


def _coco(name: str, values: Mapping[str, Any]) -> None:
    from .coco import register_coco_instances

    register_coco_instances(name, {}, values["json"], values["images"])


def _coco_panoptic(name: str, values: Mapping[str, Any]) -> None:
    from .coco_panoptic import register_coco_panoptic

    paths = (values[key] for key in ("images", "labels", "json", "instances_json"))
    register_coco_panoptic(name, {}, *paths)


def _voc(name: str, values: Mapping[str, Any]) -> None:
    from .voc import register_pascal_voc

    register_pascal_voc(name, *(values[key] for key in ("folder", "split", "year", "classes")))


def _yolo(name: str, values: Mapping[str, Any]) -> None:
    from .yolo import register_yolo

    register_yolo(name, values["yaml"], values["split"], root=values["root"])


def _sem_seg(name: str, values: Mapping[str, Any]) -> None:
    from .sem_seg import register_sem_seg

    metadata = {"ignore_label": values["ignore_label"]}
    if values["classes"]:
        metadata["stuff_classes"] = values["classes"]
    ends = values["label_ext"], values["image_ext"] or IMAGE_SUFFIXES
    register_sem_seg(name, metadata, values["labels"], values["images"], *ends)


def _folder(name: str, values: Mapping[str, Any]) -> None:
    from .image_folder import register_image_folder

    register_image_folder(name, values["images"], values["classes"])


FORMATS: Mapping[str, KnownFormat] = {
    "coco": KnownFormat(
        _coco,
        {"json": "annotation file", "images": "folder of images"},
        {"json": "json_file", "images": "image_root"},
    ),
    "coco_panoptic": KnownFormat(
        _coco_panoptic,
        {"json": "annotation file", "images": "folder of images", "labels": "folder of PNGs"},
        {"json": "panoptic_json", "images": "image_root", "labels": "panoptic_root", "instances_json": "json_file"},
        {"instances_json": None},
    ),
    "voc": KnownFormat(
        _voc,
        {"folder": "folder with Annotations and JPEGImages, or with images and XML files"},
        {"folder": "dirname", "split": "split"},
        {"split": None, "year": 2012, "classes": None},
    ),
    "yolo": KnownFormat(
        _yolo,
        {"yaml": "data.yaml"},
        {"yaml": "data_yaml", "split": "split", "root": "root"},
        {"split": "train", "root": None},
    ),
    "sem_seg": KnownFormat(
        _sem_seg,
        {"images": "folder of images", "labels": "folder of label maps"},
        {"images": "image_root", "labels": "gt_root", "ignore_label": "ignore_label", "classes": "stuff_classes"},
        {"classes": None, "ignore_label": 255, "label_ext": "png", "image_ext": None},
    ),
    "folder": KnownFormat(
        _folder,
        {"images": "folder with a folder of images for each class"},
        {"images": "image_root", "classes": "thing_classes"},
        {"classes": None},
    ),
}
"""Name in a configuration -> format."""
