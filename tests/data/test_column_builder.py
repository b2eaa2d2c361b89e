"""Making columns of records; that they come back as they were is tested with `drivetrain.data.columns`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from drivetrain.data import column_builder as module
from drivetrain.data.column_builder import pack_records
from drivetrain.data.columns import COLUMNS, unpack_record
from drivetrain.errors import DatasetError


def annotated(**annotation: Any) -> dict[str, Any]:
    return {"file_name": "a.jpg", "annotations": [annotation, {"category_id": 7}]}


def test_sizes_and_numbers_of_objects_have_their_own_arrays() -> None:
    crowd = {"category_id": 1, "iscrowd": 1}
    columns = pack_records([{"height": 3, "width": 4}, {"annotations": [crowd, {"category_id": 2}, {}]}])
    assert columns["heights"].tolist() == [3, 0] and columns["widths"].tolist() == [4, 0]
    assert columns["objects"].tolist() == [0, 2]


def test_whole_numbers_take_as_few_bytes_as_they_need() -> None:
    for image_id, kind in ((7, np.int16), (70_000, np.int32), (2**40, np.int64), (-(2**31) - 1, np.int64)):
        columns = pack_records([{"image_id": image_id}])
        assert columns["records"].dtype == kind and unpack_record(columns, 0) == {"image_id": image_id}


def test_parts_of_different_widths_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a generator, so that nothing has to hold all records."""
    monkeypatch.setattr(module, "_PART", 7)

    def records() -> Iterator[dict[str, Any]]:
        for k in range(40):
            box = [k / 10 if k > 20 else k, 1.0, 2.0, 3.0]
            polygons = [[float(v) for v in range(k)], [0.5, 1.5]] if k % 3 else [[]]
            annotation = {"bbox": box, "area": float(k), "segmentation": polygons, "keypoints": [float(k)] * (k % 4)}
            run_lengths = {"segmentation": {"size": [k, 2], "counts": [k, 1]}, "iscrowd": 1, "track": k}
            yield {"file_name": f"{k}.jpg", "image_id": 10**k, "annotations": [annotation, run_lengths] * (k % 2)}

    columns = pack_records(records())
    assert [unpack_record(columns, k) for k in range(40)] == list(records())
    assert columns["boxes"].dtype == np.float64 and columns["areas"].dtype == np.float32


def test_floats_take_four_bytes_only_where_that_is_exact() -> None:
    assert pack_records([annotated(bbox=[0.5, 2, 3, 4])])["boxes"].dtype == np.float32
    assert pack_records([annotated(bbox=[0.1, 2, 3, 4])])["boxes"].dtype == np.float64


def test_no_records_are_fine() -> None:
    columns = pack_records([])
    assert set(columns) == set(COLUMNS) and columns["records"].shape == (1, 5)


@pytest.mark.parametrize("value", [object(), {1, 2}, {1: "a"}, [{"deep": object()}]])
def test_what_cannot_be_stored_names_the_record_and_key(value: Any) -> None:
    with pytest.raises(DatasetError, match=r"record 1 of the dataset \('b\.jpg'\)"):
        pack_records([{"file_name": "a.jpg"}, {"file_name": "b.jpg", "odd": value}])


def test_what_is_no_record_is_an_error() -> None:
    with pytest.raises(DatasetError, match="record 0 of the dataset"):
        pack_records([5])
