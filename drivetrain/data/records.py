"""The records of datasets by name, and in what form they are kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetrain.errors import DatasetError

from .catalog import DatasetCatalog, MetadataCatalog
from .store import RecordStore
from .views import select

__all__ = ["get_detection_dataset_dicts", "stored"]

Records = Sequence[dict[str, Any]]


def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> Records:
    """The records of registered datasets, one after the other.

    Args:
        names: of one dataset or several.
        filter_empty: leave out images without an annotation that is not a crowd (where there are annotations at all).
        min_keypoints: leave out images with fewer visible keypoints than this.
        proposal_files: precomputed proposals are not supported: None.
        check_consistency: require that the datasets agree on their class names.

    Returns:
        A sequence whose items are fresh dicts: a `RecordStore` or a selection of several, or a list where a record
        holds values that a store cannot keep.

    Raises:
        DatasetError: a name is not registered, nothing is left, or the class names differ.
    """
    chosen = [names] if isinstance(names, str) else list(names)
    if not chosen:
        raise DatasetError("no dataset is named: set DATASETS.TRAIN or DATASETS.TEST to registered names")
    if proposal_files:
        raise DatasetError("precomputed proposals (proposal_files) are not supported; leave them out")
    loaded = [_load(name) for name in chosen]
    if check_consistency:
        _check_classes(chosen)
    kept = [_usable(name, records, filter_empty, min_keypoints) for name, records in zip(chosen, loaded, strict=True)]
    keep = np.concatenate(kept)
    total = ", ".join(f"{name!r} ({len(records)} images)" for name, records in zip(chosen, loaded, strict=True))
    if not keep.any():
        raise DatasetError(
            f"no image with a usable annotation is left in the dataset {total}; set "
            "DATALOADER.FILTER_EMPTY_ANNOTATIONS to False to train on images without annotations"
        )
    if not keep.all():
        logging.getLogger(__name__).info(
            "%d of %d images have no usable annotation and are left out, %d remain (%s)",
            int((~keep).sum()),
            len(keep),
            int(keep.sum()),
            total,
        )
    stores = [records for records in loaded if isinstance(records, RecordStore)]
    if len(stores) == len(loaded):
        return select(stores, keep)
    flat = [record for records in loaded for record in records]
    return [flat[i] for i in np.flatnonzero(keep)]


def _load(name: str) -> Records:
    records: Any = DatasetCatalog.store(name)
    if len(records) == 0:
        raise DatasetError(f"dataset {name!r} is empty: it has 0 images")
    result: Records = stored(records)
    return result


def stored(records: Any) -> Any:
    """A list of record dicts as a `RecordStore`, if that gives them back as they are; else ``records`` itself."""
    if not isinstance(records, (list, tuple)) or not all(isinstance(r, dict) for r in records):
        return records
    probes = range(0, len(records), max(len(records) // 64, 1))
    try:
        store = RecordStore.from_records(records)
        return store if all(store[i] == records[i] for i in probes) else records
    except (DatasetError, ValueError):  # a value of a type of the user's, or an array
        return records


def _check_classes(names: Sequence[str]) -> None:
    known = {n: list(c) for n in names if (c := MetadataCatalog.get(n).get("thing_classes")) is not None}
    first = next(iter(known), None)
    for name, classes in known.items():
        if first is not None and classes != known[first]:
            raise DatasetError(
                f"datasets {first!r} and {name!r} cannot be used together: their classes are {known[first]} and "
                f"{classes}"
            )


def _usable(name: str, records: Records, filter_empty: bool, min_keypoints: int) -> np.ndarray[Any, Any]:
    """Which records to keep, bool (N,)."""
    keep = np.ones(len(records), dtype=bool)
    if "annotations" not in records[0]:
        return keep
    if filter_empty and isinstance(records, RecordStore):
        keep &= records.num_objects > 0
    elif filter_empty:
        keep &= np.array([any(not a.get("iscrowd", 0) for a in r["annotations"]) for r in records])
    if min_keypoints > 0:
        keep &= np.array([_visible_keypoints(r) >= min_keypoints for r in records])
    return keep


def _visible_keypoints(record: Mapping[str, Any]) -> int:
    return sum(sum(1 for v in a.get("keypoints", ())[2::3] if v > 0) for a in record["annotations"])
