"""The datasets that are registered by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.compat.builtin_datasets import register_builtin
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.synthetic import make_synthetic
from drivetrain.errors import DatasetError


def forget() -> None:
    for name in [n for n in DatasetCatalog.list() if "coco_201" in n]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture(autouse=True)
def without_them() -> None:
    """They are registered once for a process, by whichever test imported the module."""
    forget()


def test_class_names_are_known_without_the_files() -> None:
    register_builtin()
    metadata = MetadataCatalog.get("coco_2017_val")
    assert (metadata.thing_classes[17], metadata.evaluator_type) == ("horse", "coco")
    assert metadata.json_file == "datasets/coco/annotations/instances_val2017.json"
    assert MetadataCatalog.get("keypoints_coco_2017_train").keypoint_names[0] == "nose"
    assert MetadataCatalog.get("coco_2017_test-dev").image_root == "datasets/coco/test2017"
    assert sum("coco_201" in name for name in DatasetCatalog.list()) == 16


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_builtin()
    assert MetadataCatalog.get("coco_2014_minival").json_file == (
        f"{tmp_path}/coco/annotations/instances_minival2014.json"
    )
    with pytest.raises(DatasetError, match=r"instances_train2017\.json"):
        DatasetCatalog.get("coco_2017_train")


def test_names_that_are_taken_stay() -> None:
    MetadataCatalog.get("coco_2017_val").thing_classes = ["mine"]
    DatasetCatalog.register("coco_2017_train", lambda: [{"file_name": "x"}])
    register_builtin()
    assert MetadataCatalog.get("coco_2017_val").thing_classes == ["mine"]
    assert DatasetCatalog.get("coco_2017_train") == [{"file_name": "x"}]
    MetadataCatalog.remove("coco_2017_val")
    DatasetCatalog.remove("coco_2017_train")


def test_a_file_of_other_classes_is_refused(tmp_path: Path) -> None:
    data = make_synthetic(tmp_path / "made", train=1, val=1, size=(64, 64), seed=1)
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    Path(data.val_json).rename(tmp_path / "coco" / "annotations" / "instances_val2017.json")
    Path(data.val_images).rename(tmp_path / "coco" / "val2017")
    register_builtin(tmp_path)
    with pytest.raises(DatasetError, match=r"'coco_2017_val' are \['person', .*instances_val2017\.json are"):
        DatasetCatalog.get("coco_2017_val")
