from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.store import RecordStore
from drivetrain.errors import DatasetError, OutputError
from drivetrain.structures import BoxMode

number = st.floats(allow_nan=False, width=64)
integer = st.integers(-(2**70), 2**70)
plain = st.recursive(
    st.none() | st.booleans() | integer | number | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
polygons = st.lists(st.lists(number, max_size=9), max_size=3)
rle = st.fixed_dictionaries(
    {
        "size": st.lists(st.integers(0, 9), min_size=2, max_size=2),
        "counts": st.binary()
        | st.text(st.characters(min_codepoint=32, max_codepoint=126))
        | st.lists(st.integers(0, 99)),
    }
)
annotation = st.fixed_dictionaries(
    {},
    optional={
        "bbox": st.lists(number, min_size=3, max_size=5) | plain,
        "bbox_mode": st.sampled_from(BoxMode),
        "category_id": st.integers(0, 90) | plain,
        "iscrowd": st.sampled_from([0, 1, True]),
        "area": number | plain,
        "segmentation": polygons | rle | st.none(),
        "keypoints": st.lists(number) | plain,
        "extra": plain,
    },
)
record = st.fixed_dictionaries(
    {},
    optional={
        "file_name": st.text(),
        "image_id": integer | st.text(),
        "height": st.integers(0, 9999),
        "width": st.integers(0, 9999) | number,
        "annotations": st.lists(annotation, max_size=4),
        "sem_seg_file_name": plain,
    },
)


def toys() -> list[dict[str, Any]]:
    def annotated(label: int, crowd: int = 0) -> dict[str, Any]:
        box = {"bbox": [1.0, 2.0, 3.5, 4.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": label, "iscrowd": crowd}
        return {**box, "segmentation": [[1.0, 2.0, 4.5, 2.0, 4.5, 6.0]], "area": 7.0, "keypoints": [1.5, 2.5, 2.0]}

    labels = [[(0, 0), (2, 0)], [], [(2, 1)], [(1, 0), (2, 0), (2, 1)]]
    return [
        {
            "file_name": f"images/{i}.jpg",
            "image_id": 10 + i,
            "height": 480 + i,
            "width": 640 - i,
            "annotations": [annotated(*pair) for pair in pairs],
        }
        for i, pairs in enumerate(labels)
    ]


@given(st.lists(record, max_size=5))
@settings(max_examples=80)
def test_every_record_comes_back_equal(records: list[dict[str, Any]]) -> None:
    store = RecordStore.from_records(records)
    assert len(store) == len(records)
    assert list(store) == records


@given(st.lists(record, max_size=3))
@settings(max_examples=20)
def test_every_record_comes_back_from_disk(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("store") / "s"
    opened = RecordStore.from_records(records).save(folder)
    assert list(opened) == records
    assert list(RecordStore.open(folder, verify=True)) == records


def test_it_is_a_sequence() -> None:
    store = RecordStore.from_records(toys())
    assert store[-1] == toys()[-1] and store[1:3] == toys()[1:3] and store[np.int64(2)] == toys()[2]
    for index in (4, -5):
        with pytest.raises(IndexError):
            store[index]


def test_a_record_taken_out_is_a_copy() -> None:
    store = RecordStore.from_records(toys())
    store[0]["annotations"][0]["bbox"][0] = 99
    assert store[0] == toys()[0]


def test_columns_for_grouping_and_counting() -> None:
    store = RecordStore.from_records(toys())
    assert store.heights.tolist() == [480, 481, 482, 483] and store.widths.tolist() == [640, 639, 638, 637]
    assert store.widths.dtype == np.int32
    assert store.num_annotations.tolist() == [2, 0, 1, 3]
    assert store.num_objects.tolist() == [2, 0, 0, 2]
    assert store.class_counts(4).tolist() == [1, 1, 2, 0]
    places, classes = store.objects()
    assert places.tolist() == [0, 0, 3, 3] and classes.tolist() == [0, 2, 1, 2]
    places, classes = store.categories()
    assert places.tolist() == [0, 0, 2, 3, 3, 3]
    assert classes.tolist() == [a.get("category_id", 0) for toy in toys() for a in toy["annotations"]]


def test_a_class_beyond_the_number_of_classes_is_named() -> None:
    with pytest.raises(DatasetError, match=r"'images/0\.jpg'.*category_id 2.*2 classes \(0 to 1\)"):
        RecordStore.from_records(toys()).class_counts(2)


def test_an_opened_store_is_pickled_by_reference(tmp_path: Path) -> None:
    opened = RecordStore.from_records(toys() * 500).save(tmp_path / "s")
    sent = pickle.dumps(opened)
    assert len(sent) < 500
    received = pickle.loads(sent)
    assert received[1999] == toys()[3] and received.folder == opened.folder
    in_memory = RecordStore.from_records(toys())
    assert list(pickle.loads(pickle.dumps(in_memory))) == toys()
    RecordStore.from_records(toys()).save(tmp_path / "s")
    with pytest.raises(DatasetError, match="was replaced"):
        pickle.loads(sent)


def test_the_digest_is_that_of_the_records(tmp_path: Path) -> None:
    first, second = RecordStore.from_records(toys()), RecordStore.from_records(toys())
    assert first.digest == second.digest == first.save(tmp_path / "s").digest
    assert first.digest != RecordStore.from_records(toys()[::-1]).digest


def test_saving_replaces_a_store_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "s"
    old = RecordStore.from_records(toys()).save(folder)
    RecordStore.from_records(toys()[:1]).save(folder)
    assert len(RecordStore.open(folder)) == 1 and old[3] == toys()[3]
    assert os.listdir(tmp_path / "deep") == ["s"]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("important")
    with pytest.raises(OutputError, match="is not a record store"):
        RecordStore.from_records(toys()).save(other)
    assert (other / "thesis.txt").read_text() == "important"


def test_a_failed_save_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "s"
    RecordStore.from_records(toys()).save(folder)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        RecordStore.from_records(toys()[:1]).save(folder)
    assert list(RecordStore.open(folder, verify=True)) == toys() and os.listdir(tmp_path) == ["s"]


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no record store"):
        RecordStore.open(tmp_path)
    (tmp_path / "header.json").write_text("{")
    with pytest.raises(DatasetError, match="cannot be read"):
        RecordStore.open(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [("version", 99, "version 99"), ("format", "x", "not one of a record store"), ("columns", {}, "does not describe")],
)
def test_a_wrong_header_is_said(tmp_path: Path, key: str, value: Any, why: str) -> None:
    RecordStore.from_records(toys()).save(tmp_path / "s")
    path = tmp_path / "s" / "header.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(DatasetError, match=why):
        RecordStore.open(tmp_path / "s")


def test_damage_is_found(tmp_path: Path) -> None:
    RecordStore.from_records(toys()).save(tmp_path / "s")
    path = tmp_path / "s" / "boxes.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"boxes\.npy is not what was saved"):
        RecordStore.open(tmp_path / "s", verify=True)
    path.write_bytes(content[:-8])
    with pytest.raises(DatasetError, match=r"damaged: boxes\.npy"):
        RecordStore.open(tmp_path / "s")
    np.save(path, np.zeros((1, 4)))
    with pytest.raises(DatasetError, match="its header says"):
        RecordStore.open(tmp_path / "s")


def test_a_pickle_in_the_folder_is_not_loaded(tmp_path: Path) -> None:
    RecordStore.from_records(toys()).save(tmp_path / "s")
    np.save(tmp_path / "s" / "boxes.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match="damaged"):
        RecordStore.open(tmp_path / "s")


def test_facts_and_names_go_with_the_records(tmp_path: Path) -> None:
    store = RecordStore.from_records([*toys(), {}], {"classes": ["a"], "n": None})
    opened = store.save(tmp_path / "s")
    for each in (store, opened, pickle.loads(pickle.dumps(store)), pickle.loads(pickle.dumps(opened))):
        assert each.facts == {"classes": ["a"], "n": None}
        assert list(each.file_names()) == [*(f"images/{i}.jpg" for i in range(4)), ""]
