"""Datasets named in a configuration, registered when they are needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError, did_you_mean

from .coco import register_coco_instances

__all__ = ["register_from_config"]

KNOWN_FORMATS = ("coco",)
KNOWN_KEYS = ("format", "json", "images")


def register_from_config(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Register the datasets of ``cfg.DATASETS.REGISTER`` and return their names.

    Each entry is ``name: {format: coco, json: FILE, images: FOLDER}``; ``format`` may be left out, keys may be in upper
    case, ``~`` is the home folder. What is registered already from the same files is left as it is, so that a
    configuration may be used several times in one process. All entries are checked before the first is registered.

    Raises:
        DatasetError: an unknown key or format, a missing key, or a name registered from other files; names the entry.
    """
    if not isinstance(entries, Mapping):
        raise DatasetError(f"DATASETS.REGISTER must map dataset names to their files, not be {entries!r}")
    checked = {name: _check(name, entry) for name, entry in entries.items()}
    new = {name: files for name, files in checked.items() if not _is_registered(name, *files)}
    for name, (json_file, image_root) in new.items():
        register_coco_instances(name, {}, json_file, image_root)
    return list(checked)


def _check(name: str, entry: Mapping[str, Any]) -> tuple[str, str]:
    """The annotation file and the image folder of one entry."""
    place = f"DATASETS.REGISTER.{name}"
    if not isinstance(entry, Mapping):
        raise DatasetError(f"{place} must be like {{format: coco, json: FILE, images: FOLDER}}, not {entry!r}")
    values = {str(key).lower(): value for key, value in entry.items()}
    for key in values:
        if key not in KNOWN_KEYS:
            raise DatasetError(
                f"{place} has the unknown key {key!r}{did_you_mean(key, KNOWN_KEYS)} (known: {', '.join(KNOWN_KEYS)})"
            )
    kind = values.get("format", "coco")
    if not isinstance(kind, str) or kind.lower() not in KNOWN_FORMATS:
        hint = did_you_mean(str(kind), KNOWN_FORMATS)
        raise DatasetError(f"{place} has the unknown format {kind!r}{hint} (known: {', '.join(KNOWN_FORMATS)})")
    for key in ("json", "images"):
        if not isinstance(values.get(key), (str, os.PathLike)) or not os.fspath(values[key]):
            given = f"is {values[key]!r}" if key in values else "is missing"
            raise DatasetError(f"{place}.{key} {given}; give the path of the {_MEANING[key]}")
    return os.path.expanduser(os.fspath(values["json"])), os.path.expanduser(os.fspath(values["images"]))


_MEANING = {"json": "annotation file", "images": "folder of images"}


def _is_registered(name: str, json_file: str, image_root: str) -> bool:
    """Whether ``name`` stands for these files already; an error when it stands for others."""
    if name not in DatasetCatalog:
        return False
    metadata = MetadataCatalog.get(name)
    present = (metadata.get("json_file"), metadata.get("image_root"))
    if present != (json_file, image_root):
        raise DatasetError(
            f"DATASETS.REGISTER.{name} is {json_file!r} with images in {image_root!r}, but that name is already "
            f"registered with {present[0]!r} and {present[1]!r}; choose another name"
        )
    return True
