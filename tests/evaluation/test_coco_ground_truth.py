from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError
from drivetrain.evaluation import load_ground_truth


@pytest.fixture
def write(tmp_path: Path, catalog: None) -> Any:
    """Registers ``data`` with the given content and metadata."""

    def register(content: Any, **metadata: Any) -> str:
        path = tmp_path / "gt.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        MetadataCatalog.get("data").set(json_file=str(path), **metadata)
        return "data"

    return register


def content(
    *annotations: dict[str, Any], images: Any = (1, 2), categories: Any = ((5, "b"), (2, "a"))
) -> dict[str, Any]:
    full = [{"image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4], **a} for a in annotations]
    return {
        "images": [{"id": i, "height": 20, "width": 30} for i in images],
        "annotations": full,
        "categories": [{"id": i, "name": n} for i, n in categories],
    }


def test_classes_come_from_the_file_when_the_metadata_has_none(write: Any) -> None:
    truth = load_ground_truth(write(content({})))
    assert (list(truth.class_names), list(truth.class_ids)) == (["a", "b"], [2, 5])
    assert truth.kinds == {"bbox"} and truth.num_keypoints == 0 and truth.annotated
    assert truth.image_ids == {1: 1, 2: 2}
    assert truth.api.getCatIds() == [2, 5]


def test_ids_that_the_evaluation_cannot_hold_are_numbered_in_order(write: Any) -> None:
    truth = load_ground_truth(write(content({"image_id": "b"}, images=["b", 2**60, "a"])))
    assert truth.image_ids == {2**60: 1, "a": 2, "b": 3}
    assert truth.api.dataset["annotations"][0]["image_id"] == 3
    MetadataCatalog.remove("data")
    assert list(load_ground_truth(write(content(images=["10", 10, "9", 9]))).image_ids) == [9, 10, "10", "9"]


def test_several_categories_may_share_a_class(write: Any) -> None:
    name = write(
        content({}, {"category_id": 2}), thing_classes=["any"], thing_dataset_id_to_contiguous_id={"2": 0, 5: 0}
    )
    truth = load_ground_truth(name)
    assert truth.class_ids == [2]
    assert [a["category_id"] for a in truth.api.dataset["annotations"]] == [2, 2]


def test_categories_outside_the_mapping_are_left_out(write: Any, caplog: pytest.LogCaptureFixture) -> None:
    name = write(content({}, {"category_id": 2}), thing_classes=["b"], thing_dataset_id_to_contiguous_id={5: 0})
    assert len(load_ground_truth(name).api.dataset["annotations"]) == 1
    assert "1 annotations with a category id that is not among the classes" in caplog.text


def test_masks_and_keypoints_are_noticed_and_gaps_filled(write: Any, caplog: pytest.LogCaptureFixture) -> None:
    mask = [[0, 0, 4, 0, 4, 4]]
    truth = load_ground_truth(write(content({"segmentation": mask}, {"keypoints": [1, 2, 2] * 4}, {})))
    assert truth.kinds == {"bbox", "segm", "keypoints"} and truth.num_keypoints == 4
    first, second, _ = truth.api.dataset["annotations"]
    assert first["keypoints"] == [0.0] * 12 and first["num_keypoints"] == 0
    assert second["segmentation"] == [[1, 2, 1, 6, 4, 6, 4, 2]]
    assert "2 of 3 annotations have no usable mask" in caplog.text


def test_keypoints_of_different_number_are_not_evaluated(write: Any, caplog: pytest.LogCaptureFixture) -> None:
    truth = load_ground_truth(write(content({"keypoints": [1, 2, 2]}, {"keypoints": [1, 2, 2] * 2})))
    assert truth.kinds == {"bbox"}
    assert "[1, 2] keypoints" in caplog.text


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("{", "is not valid JSON"),
        ([], "no list 'images'"),
        ({"images": [], "categories": [{}]}, "no list 'categories' of objects with an 'id'"),
        ({"images": [], "categories": [], "annotations": [1]}, "'annotations' is no list of objects"),
        (content(images=[1, 1, 1]), "1 image ids belong to several images \\(the first is 1\\)"),
        (content(images=[1.5]), "an image id is an integer or a string, not 1.5"),
        (content(categories=[("x", "y")]), "a category id is an integer, not 'x'"),
    ],
)
def test_bad_files(write: Any, broken: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_ground_truth(write(broken))


def test_classes_that_do_not_fit(write: Any) -> None:
    with pytest.raises(DatasetError, match="has 2 categories, but its dataset's metadata names 1 classes"):
        load_ground_truth(write(content({}), thing_classes=["a"]))
    MetadataCatalog.remove("data")
    name = write(content({}), thing_classes=["a", "b"], thing_dataset_id_to_contiguous_id={5: 0, 2: 2})
    with pytest.raises(DatasetError, match=r"class indices \[0, 2\]: they have to be 0 to 1"):
        load_ground_truth(name)


def test_names_in_another_order_than_the_files(write: Any) -> None:
    truth = load_ground_truth(write(content({}), thing_classes=["b", "a"]))
    assert (truth.class_names, truth.class_ids) == (["b", "a"], [5, 2])
    MetadataCatalog.remove("data")
    truth = load_ground_truth(write(content({}), thing_classes=["y", "x"]))  # other names: by the order of the ids
    assert (truth.class_names, truth.class_ids) == (["y", "x"], [2, 5])


@pytest.mark.parametrize(
    ("size", "known"),
    [
        ((np.int64(20), np.int32(30)), True),
        ((20.0, 30.0), True),
        ((20.5, 30), False),
        ((0, 30), False),
        ((-20, 30), False),
    ],
)
def test_sizes_of_images(catalog: None, size: Any, known: bool) -> None:
    annotation = {"bbox": [0, 0, 4, 4], "category_id": 0, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    record = {"image_id": 3, "height": size[0], "width": size[1], "annotations": [annotation]}
    DatasetCatalog.register("sizes", lambda: [record])
    truth = load_ground_truth("sizes")
    assert truth.image_size(3) == ((20, 30) if known else (0, 0))
    assert ("segm" in truth.kinds) == known


def test_a_missing_file_and_an_unknown_name(catalog: None, tmp_path: Path) -> None:
    MetadataCatalog.get("gone").json_file = str(tmp_path / "gone.json")
    with pytest.raises(DatasetError, match=r"gone\.json cannot be read: No such file"):
        load_ground_truth("gone")
    with pytest.raises(DatasetError, match="no dataset 'nowhere' is registered"):
        load_ground_truth("nowhere")


def test_records_without_class_names_and_metadata_set_by_loading(catalog: None) -> None:
    annotation = {"bbox": [0, 0, 4, 4], "bbox_mode": 0, "category_id": 1}
    records = [{"image_id": 3, "height": 9, "width": 9, "annotations": [annotation]}]
    DatasetCatalog.register("plain", lambda: records)
    truth = load_ground_truth("plain")
    assert truth.class_names == ["0", "1"] and truth.class_ids == [0, 1]

    def load() -> Any:
        MetadataCatalog.get("late").thing_classes = ["x", "y", "z"]
        return records

    DatasetCatalog.register("late", load)
    assert load_ground_truth("late").class_names == ["x", "y", "z"]
