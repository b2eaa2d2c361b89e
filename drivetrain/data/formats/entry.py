"""What every format does to make a dataset known by a name."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError

from .defects import DefectReport

__all__ = ["ReadDataset", "checked_path", "fill_metadata", "finish_report", "register_dataset"]

Record = dict[str, Any]


@dataclass
class ReadDataset:
    """What was read from a dataset's files.

    Attributes:
        records: one dict for each image. Those of COCO files, and their annotations, have under ``entry`` what the file
            says of them, for when they are written into such a file again.
        image_root: the folder of the images; every ``file_name`` lies in it.
        metadata: what the files say about the dataset, as ``thing_classes``; goes to its metadata.
        sections: what a COCO file holds beside images and annotations, as it has it: ``categories``, ``info``, ...
    """

    records: list[Record]
    image_root: str
    metadata: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)


def register_dataset(name: str, load: Callable[[], list[Record]], metadata: Mapping[str, Any]) -> None:
    """Register ``load`` as the dataset ``name``, with metadata; both or neither.

    Raises:
        DatasetError: the name is taken, or its metadata has another value already.
    """
    DatasetCatalog.register(name, load)
    try:
        MetadataCatalog.get(name).set(**metadata)
    except (DatasetError, TypeError):
        DatasetCatalog.remove(name)
        raise


def checked_path(value: Any, argument: str, name: str) -> str:
    """``value`` as a path.

    Raises:
        DatasetError: it is none; names the argument and the dataset.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise DatasetError(f"{argument} of dataset {name!r} must be a path, not {value!r}")
    return str(os.fspath(value))


def finish_report(report: DefectReport, read: ReadDataset | None, logger: logging.Logger) -> ReadDataset:
    """Raise what is wrong, warn of what was left out or corrected, and return what was read.

    Raises:
        DatasetError: the report has errors; the message has all of them.
    """
    report.raise_if_errors()
    if read is None:
        raise DatasetError(f"{report.source} could not be read")
    report.log(logger)
    logger.info(f"{report.source}: {len(read.records):,} images")
    return read


def fill_metadata(name: str | None, found: Mapping[str, Any], source: str) -> None:
    """Put what the files say into the metadata of the dataset ``name`` (None: nowhere).

    Raises:
        DatasetError: the metadata has another value already.
    """
    if name is None:
        return
    metadata = MetadataCatalog.get(name)
    for key, value in found.items():
        given = metadata.get(key)
        if given is None:
            setattr(metadata, key, value)
        elif _as_list(given) != _as_list(value):
            raise DatasetError(
                f"{key} given for dataset {name!r} is {given!r}, but {source} has {value!r}; leave it out to take the "
                "file's"
            )


def _as_list(value: Any) -> Any:
    """A tuple as the equal list; names may be given as either."""
    return list(value) if isinstance(value, tuple) else value
