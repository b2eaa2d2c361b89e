from __future__ import annotations

from typing import Any

import pytest

from drivetrain.data.formats.coco_entries import category_entries, category_ids, image_entries, other_sections
from drivetrain.data.formats.entry import ReadDataset
from drivetrain.errors import DatasetError


def records(*ids: Any, **more: Any) -> list[dict[str, Any]]:
    return [{"file_name": f"r/{i}.jpg", "image_id": i, "width": 4, "height": 3, **more} for i in ids]


def test_images_get_numbers_where_their_ids_are_none() -> None:
    def ids(*given: Any) -> list[Any]:
        return [e["id"] for e in image_entries(ReadDataset(records(*given), "r"), ["n"] * len(given))]

    assert ids(7, 3) == [7, 3]
    assert ids("b", "a") == [1, 2] and ids(5, 5) == [1, 2] and ids(True, 9) == [1, 2]


def test_an_image_of_a_coco_file_keeps_its_id_and_keys_under_the_new_name() -> None:
    entry = {"id": "x", "file_name": "old.jpg", "width": 4.0, "height": 3.0, "license": 2, "own": [1]}
    made = image_entries(ReadDataset(records("x", entry=entry), "r"), ["new.jpg"])
    assert made == [{"id": "x", "file_name": "new.jpg", "width": 4, "height": 3, "license": 2, "own": [1]}]
    assert type(made[0]["width"]) is int and entry["file_name"] == "old.jpg"


def test_categories_are_the_files_in_its_order() -> None:
    own = [{"id": 9, "name": "b", "supercategory": "s", "skeleton": [[1, 2]]}, {"id": 4, "name": "a"}]
    metadata = {"thing_classes": ["a", "b"], "thing_dataset_id_to_contiguous_id": {4: 0, 9: 1}}
    read = ReadDataset([], "r", metadata, {"info": {"year": 2020}, "categories": own, "licenses": []})
    assert category_entries(read) == own and category_ids(read) == [4, 9]
    assert other_sections(read) == {"info": {"year": 2020}, "licenses": []}


def test_categories_of_other_data_are_made_of_names_and_keypoints() -> None:
    metadata = {"thing_classes": ["a", "b"], "keypoint_names": ["l", "r"], "keypoint_flip_map": [("l", "r")]}
    points = {"keypoints": ["l", "r"], "keypoint_flip_map": [["l", "r"]]}
    read = ReadDataset([], "r", metadata)
    assert category_entries(read) == [{"id": 1, "name": "a", **points}, {"id": 2, "name": "b", **points}]
    assert other_sections(read) == {}
    with pytest.raises(DatasetError, match="the classes of 'r' have no names"):
        category_entries(ReadDataset([], "r"))


def test_ids_are_told_by_things_and_stuff_together_or_counted() -> None:
    names = {"stuff_classes": ["a", "b", "c"]}
    both = {"thing_dataset_id_to_contiguous_id": {30: 2, 10: 0}, "stuff_dataset_id_to_contiguous_id": {20: 1}}
    assert category_ids(ReadDataset([], "r", names | both)) == [10, 20, 30]
    assert category_ids(ReadDataset([], "r", names | {"thing_dataset_id_to_contiguous_id": {30: 2}})) == [1, 2, 3]
