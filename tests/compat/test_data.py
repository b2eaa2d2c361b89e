"""Datasets of records for torch's ``DataLoader``."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset

from drivetrain.compat.data import DatasetFromList, MapDataset
from drivetrain.data import build_detection_train_loader
from drivetrain.errors import DatasetError

RECORDS = [{"file_name": f"{k}.png", "annotations": [{"bbox": (1, 2, 3, k)}]} for k in range(5)]


def first_two(record: Any) -> Any:
    return record["file_name"] if record["file_name"] < "2" else None


def nothing(record: Any) -> None:
    return None


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(RECORDS)


@pytest.mark.parametrize("serialize", [True, False])
def test_a_list(serialize: bool) -> None:
    records = copy.deepcopy(RECORDS)
    dataset = DatasetFromList(records, serialize=serialize)
    assert len(dataset) == 5 and [dataset[k] for k in range(5)] == RECORDS and dataset[-1] == RECORDS[-1]
    dataset[0]["annotations"].clear()
    assert dataset[0] == RECORDS[0] and records == RECORDS
    with pytest.raises(IndexError):
        dataset[5]
    assert len(DatasetFromList([], serialize=serialize)) == 0


def test_without_copies_the_records_are_the_lists_own() -> None:
    records = copy.deepcopy(RECORDS)
    assert DatasetFromList(records, copy=False, serialize=False)[1] is records[1]


def test_mapping() -> None:
    dataset = MapDataset(DatasetFromList(RECORDS), first_two)
    assert len(dataset) == 5 and dataset[0] == "0.png" and dataset[1] == "1.png"
    assert {dataset[4] for _ in range(30)} == {"0.png", "1.png"}
    assert pickle.loads(pickle.dumps(dataset))[1] == "1.png"
    with pytest.raises(DatasetError, match="returned None for 1,000 records"):
        MapDataset(RECORDS, nothing)[0]


def test_an_iterable_dataset_stays_one() -> None:
    dataset = MapDataset(Stream(), first_two)
    assert isinstance(dataset, IterableDataset) and list(dataset) == ["0.png", "1.png"]


def test_loaders_take_them() -> None:
    dataset = MapDataset(DatasetFromList(RECORDS), first_two)
    (batch,) = DataLoader(dataset, batch_size=2, sampler=[1, 0])  # type: ignore[arg-type]
    assert batch == ["1.png", "0.png"]
    loader = build_detection_train_loader(DatasetFromList(RECORDS), mapper=dict, total_batch_size=5, seed=0)
    names = sorted(record["file_name"] for record in next(iter(loader)))
    assert names == [r["file_name"] for r in RECORDS]
