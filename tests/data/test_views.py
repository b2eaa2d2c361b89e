"""Selections from record stores."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from drivetrain.data.store import RecordStore
from drivetrain.data.views import RecordView, select


def store(first: int, count: int) -> RecordStore:
    return RecordStore.from_records(
        {
            "file_name": f"{k}.jpg",
            "image_id": k,
            "height": 10 + k,
            "width": 20 + k,
            "annotations": [{"category_id": 0}] * (k % 3),
        }
        for k in range(first, first + count)
    )


def test_records_of_several_stores_in_order() -> None:
    view = RecordView([store(0, 4), store(10, 3), store(20, 2)], np.array([1, 3, 4, 6, 7, 8]))
    wanted = [1, 3, 10, 12, 20, 21]
    assert [record["image_id"] for record in view] == wanted and len(view) == 6
    assert view.heights.tolist() == [10 + k for k in wanted] and view.widths.tolist() == [20 + k for k in wanted]
    assert view.num_objects.tolist() == [k % 3 for k in wanted]
    assert view[-1]["image_id"] == 21 and [r["image_id"] for r in view[1:3]] == [3, 10]
    assert "6 of 9 records in 3 stores" in repr(view)
    with pytest.raises(IndexError):
        view[6]


def test_categories_are_found_from_the_place_in_the_view() -> None:
    def labelled(*rows: tuple[int, ...]) -> RecordStore:
        return RecordStore.from_records({"annotations": [{"category_id": c} for c in row]} for row in rows)

    view = RecordView([labelled((1, 2), (), (3,)), labelled((4, 5, 6), (7,))], np.array([4, 0, 1, 3, 0]))
    places, classes = view.categories()
    assert places.tolist() == [0, 1, 1, 3, 3, 3, 4, 4] and classes.tolist() == [7, 1, 2, 4, 5, 6, 1, 2]
    nothing = RecordView([labelled((1,))], np.array([], dtype=int))
    assert [values.tolist() for values in nothing.categories()] == [[], []]


def test_records_are_fresh_and_a_view_can_be_sent_to_a_worker() -> None:
    view = RecordView([store(0, 3)], np.array([2, 0]))
    view[0]["image_id"] = 99
    assert [r["image_id"] for r in pickle.loads(pickle.dumps(view))] == [2, 0]


def test_select_everything_of_one_store_is_the_store() -> None:
    one = store(0, 3)
    assert select([one], np.ones(3, dtype=bool)) is one
    assert [r["image_id"] for r in select([one], np.array([True, False, True]))] == [0, 2]
    assert len(select([one, one], np.ones(6, dtype=bool))) == 6
