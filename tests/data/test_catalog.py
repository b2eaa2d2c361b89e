from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from drivetrain.data.catalog import DatasetCatalog, Metadata, MetadataCatalog, UnknownDatasetError
from drivetrain.errors import DatasetError

Datasets, MetadataEntries = type(DatasetCatalog), type(MetadataCatalog)


def test_records_are_loaded_only_when_asked_for() -> None:
    catalog, calls = Datasets(), []
    catalog.register("toy", lambda: calls.append(1) or [{"file_name": "a.jpg"}])
    assert calls == []
    assert catalog.get("toy") == [{"file_name": "a.jpg"}]
    assert catalog.list() == ["toy"] and "toy" in catalog and "other" not in catalog and len(catalog) == 1


def test_within_a_block_a_dataset_is_read_once() -> None:
    catalog, calls = Datasets(), []
    catalog.register("toy", lambda: calls.append(1) or [{"file_name": "a.jpg"}])
    with catalog.kept():
        assert catalog.store("toy") is catalog.store("toy")
        with catalog.kept():
            catalog.store("toy")
        assert len(calls) == 1
        assert catalog.get("toy") is not catalog.store("toy") and len(calls) == 2  # always fresh
        catalog.remove("toy")
        catalog.register("toy", list)
        assert catalog.store("toy") == []
    catalog.remove("toy")
    catalog.register("toy", lambda: calls.append(1) or [])
    catalog.store("toy")
    catalog.store("toy")
    assert len(calls) == 4


def test_an_unknown_name_is_a_dataset_error_and_a_key_error_with_suggestions() -> None:
    catalog = Datasets()
    catalog.register("blood_train", list)
    with pytest.raises(KeyError) as caught:
        catalog.get("blod_train")
    assert isinstance(caught.value, DatasetError) and isinstance(caught.value, UnknownDatasetError)
    assert "did you mean 'blood_train'" in str(caught.value) and "registered: 'blood_train'" in str(caught.value)
    with pytest.raises(UnknownDatasetError, match="registered: none"):
        Datasets().get("x")


def test_a_taken_name_a_list_and_a_bad_name_are_refused() -> None:
    catalog = Datasets()
    catalog.register("toy", list)
    with pytest.raises(DatasetError, match="already registered"):
        catalog.register("toy", list)
    with pytest.raises(DatasetError, match="not with a list"):
        catalog.register("other", [])
    with pytest.raises(DatasetError, match="non-empty string"):
        catalog.register("", list)


def test_pop_remove_and_clear() -> None:
    catalog = Datasets()
    for name in "abc":
        catalog.register(name, list)
    assert catalog.pop("a") is list
    catalog.remove("b")
    assert [*catalog] == ["c"]
    catalog.clear()
    assert catalog.list() == []
    with pytest.raises(UnknownDatasetError):
        catalog.remove("b")


def test_metadata_is_one_object_per_name_and_remembers_attributes() -> None:
    catalog = MetadataEntries()
    entry = catalog.get("toy").set(thing_classes=["cat"], json_file="a.json")
    assert catalog.get("toy") is entry
    entry.colors = [(1, 2, 3)]
    assert entry.thing_classes == ["cat"] and entry.get("absent", 5) == 5 and entry.get("json_file") == "a.json"
    assert entry.as_dict() == {"name": "toy", "thing_classes": ["cat"], "json_file": "a.json", "colors": [(1, 2, 3)]}
    assert catalog.list() == ["toy"]
    catalog.remove("toy")
    assert catalog.get("toy") is not entry
    with pytest.raises(UnknownDatasetError):
        catalog.remove("absent")


def test_metadata_keeps_its_first_value() -> None:
    entry = Metadata("toy", thing_classes=["cat"])
    entry.thing_classes = ["cat"]
    with pytest.raises(DatasetError, match=r"'thing_classes' of dataset 'toy' is already \['cat'\]"):
        entry.thing_classes = ["dog"]
    entry.weights = np.arange(3)
    entry.weights = np.arange(3)
    with pytest.raises(DatasetError):
        entry.weights = np.arange(4)


def test_a_missing_attribute_names_the_dataset_and_what_it_has() -> None:
    entry = Metadata("toy", thing_classes=["cat"])
    assert not hasattr(entry, "json_file")
    with pytest.raises(AttributeError, match=r"'toy' has no 'thing_clases'.*did you mean 'thing_classes'"):
        _ = entry.thing_clases


def test_metadata_can_be_copied_and_pickled() -> None:
    entry = Metadata("toy", thing_classes=["cat"])
    for twin in (copy.deepcopy(entry), pickle.loads(pickle.dumps(entry))):
        assert twin.as_dict() == entry.as_dict() and twin is not entry


def test_names_must_be_strings() -> None:
    with pytest.raises(DatasetError, match="non-empty string, not 3"):
        MetadataEntries().get(3)


def test_a_store_is_handed_out_without_making_its_records() -> None:
    class Function:
        calls: list[str] = []

        def __call__(self) -> list[dict[str, Any]]:
            self.calls.append("all")
            return [{"image_id": 1}]

        def store(self) -> tuple[dict[str, Any], ...]:
            self.calls.append("store")
            return ({"image_id": 1},)

    function = Function()
    DatasetCatalog.register("catalog_store", function)
    DatasetCatalog.register("catalog_list", lambda: [{"image_id": 2}])
    try:
        assert list(DatasetCatalog.store("catalog_store")) == DatasetCatalog.get("catalog_store") == [{"image_id": 1}]
        assert function.calls == ["store", "all"]
        assert DatasetCatalog.store("catalog_list") == [{"image_id": 2}]
    finally:
        DatasetCatalog.remove("catalog_store")
        DatasetCatalog.remove("catalog_list")
    with pytest.raises(UnknownDatasetError):
        DatasetCatalog.store("catalog_store")
