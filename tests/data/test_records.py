"""The records of datasets by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.records import get_detection_dataset_dicts, stored
from drivetrain.data.store import RecordStore
from drivetrain.errors import DatasetError
from drivetrain.structures import BoxMode


def record(k: int, *classes: int, crowd: int = 0, **more: Any) -> dict[str, Any]:
    annotation = {"bbox": [1.0, 1.0, 5.0, 5.0], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": crowd}
    return {
        "file_name": f"{k}.jpg",
        "image_id": k,
        "height": 20,
        "width": 30 if k % 2 else 10,
        "annotations": [{**annotation, "category_id": c} for c in classes],
        **more,
    }


RECORDS = [record(k, *range(k % 3)) for k in range(30)]  # every third has no annotation


@pytest.fixture
def names() -> Iterator[tuple[str, str]]:
    for name, records in (("records_a", RECORDS), ("records_b", [record(k, 1) for k in range(100, 110)])):
        DatasetCatalog.register(name, lambda records=records: records)
        MetadataCatalog.get(name).set(thing_classes=["x", "y"])
    yield "records_a", "records_b"
    for name in ("records_a", "records_b"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def ids(batch: list[dict[str, Any]]) -> list[int]:
    return [sample["image_id"] for sample in batch]


def test_records_of_one_and_of_several(names: tuple[str, str]) -> None:
    usable = [k for k in range(30) if k % 3]
    assert ids(get_detection_dataset_dicts("records_a")) == usable
    assert list(get_detection_dataset_dicts("records_a")) == [RECORDS[k] for k in usable]
    assert ids(get_detection_dataset_dicts(names)) == [*usable, *range(100, 110)]
    assert ids(get_detection_dataset_dicts(["records_a"], filter_empty=False)) == list(range(30))


def test_crowds_do_not_count_and_keypoints_may_be_required() -> None:
    points = {"keypoints": [1, 1, 2, 2, 2, 1, 0, 0, 0]}
    rows = [record(0, 1, crowd=1), record(1, 1), record(2, 1)]
    rows[2]["annotations"][0].update(points)
    DatasetCatalog.register("records_crowd", lambda: rows)
    try:
        assert ids(get_detection_dataset_dicts("records_crowd")) == [1, 2]
        assert ids(get_detection_dataset_dicts("records_crowd", min_keypoints=2)) == [2]
        with pytest.raises(DatasetError, match=r"no image.*'records_crowd' \(3 images\)"):
            get_detection_dataset_dicts("records_crowd", min_keypoints=3)
    finally:
        DatasetCatalog.remove("records_crowd")


def test_records_that_no_store_can_hold_stay_as_they_are() -> None:
    rows = [record(k, 1, mine=np.arange(3), size=(1, 2)) for k in range(3)]
    DatasetCatalog.register("records_odd", lambda: rows)
    try:
        loaded = get_detection_dataset_dicts("records_odd")
        assert isinstance(loaded[0]["mine"], np.ndarray) and loaded[0]["size"] == (1, 2)
    finally:
        DatasetCatalog.remove("records_odd")


def test_bad_datasets(names: tuple[str, str]) -> None:
    with pytest.raises(DatasetError, match="no dataset is named"):
        get_detection_dataset_dicts([])
    with pytest.raises(DatasetError, match="'records_aa' is registered; did you mean 'records_a'"):
        get_detection_dataset_dicts("records_aa")
    with pytest.raises(DatasetError, match="proposal"):
        get_detection_dataset_dicts("records_a", proposal_files=["p.pkl"])
    DatasetCatalog.register("records_none", list)
    DatasetCatalog.register("records_bare", lambda: [record(0), record(1)])
    MetadataCatalog.get("records_bare").set(thing_classes=["other"])
    try:
        with pytest.raises(DatasetError, match="'records_none' is empty"):
            get_detection_dataset_dicts("records_none")
        with pytest.raises(DatasetError, match=r"'records_bare' \(2 images\)"):
            get_detection_dataset_dicts("records_bare")
        with pytest.raises(DatasetError, match="'records_a' and 'records_bare' cannot be used together"):
            get_detection_dataset_dicts(["records_a", "records_bare"])
        assert len(get_detection_dataset_dicts(["records_a", "records_bare"], check_consistency=False)) == 20
    finally:
        DatasetCatalog.remove("records_none")
        DatasetCatalog.remove("records_bare")
        MetadataCatalog.remove("records_bare")


def test_stored() -> None:
    assert isinstance(stored(RECORDS), RecordStore) and list(stored(RECORDS)) == RECORDS
    for other in (range(5), [1, 2], [record(0, own=object())]):
        assert stored(other) is other
