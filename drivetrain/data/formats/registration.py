"""Datasets named in a configuration, registered when they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError

from .known import KnownFormat, read_entry

__all__ = ["register_from_config"]


def register_from_config(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Register the datasets of ``cfg.DATASETS.REGISTER`` and return their names.

    Each entry is ``name: {format: coco, json: FILE, images: FOLDER}``, or of another format with its keys (see
    `drivetrain.data.formats.known.FORMATS`); ``format`` may be left out for COCO, keys may be in upper case, ``~`` is
    the home folder. With ``made_by``, a command, the error for missing files names what makes them. What is registered
    already from the same files is left as it is, so that a configuration may be used several times in one process. All
    entries are checked before the first is registered.

    Raises:
        DatasetError: an unknown key or format, a missing key, or a name registered from other files; names the entry.
    """
    if not isinstance(entries, Mapping):
        raise DatasetError(f"DATASETS.REGISTER must map dataset names to their files, not be {entries!r}")
    checked = {name: read_entry(f"DATASETS.REGISTER.{name}", entry) for name, entry in entries.items()}
    new = {name: found for name, found in checked.items() if not _is_registered(name, *found)}
    for name, (known, values) in new.items():
        known.register(name, values)
        if command := values.get("made_by"):
            paths = [values[key] for key in known.files]
            DatasetCatalog.register(name, _MadeByCommand(DatasetCatalog.pop(name), paths, command))
    return list(checked)


class _MadeByCommand:
    """A dataset's loading function that names the command which makes its files, should they be missing."""

    def __init__(self, load: Callable[[], list[dict[str, Any]]], paths: Sequence[str], command: str) -> None:
        self._load, self._paths, self._command = load, paths, command

    def __call__(self) -> list[dict[str, Any]]:
        """The records."""
        self._check()
        return self._load()

    def store(self) -> Sequence[dict[str, Any]]:
        """The records, each made when it is taken out where the function can do that."""
        self._check()
        store: Callable[[], Sequence[dict[str, Any]]] = getattr(self._load, "store", self._load)
        return store()

    def _check(self) -> None:
        missing = [path for path in self._paths if not os.path.exists(path)]
        if missing:
            raise DatasetError(f"{missing[0]!r} does not exist; make it with: {self._command}")


def _is_registered(name: str, known: KnownFormat, values: Mapping[str, Any]) -> bool:
    """Whether ``name`` stands for these files already; an error when it stands for others."""
    if name not in DatasetCatalog:
        return False
    metadata = MetadataCatalog.get(name)
    if not known.is_same(values, metadata):
        given = {key: values[key] for key in known.told}
        raise DatasetError(
            f"DATASETS.REGISTER.{name} is {given}, but that name is already registered with "
            f"{known.told_by(metadata)}; choose another name"
        )
    return True
