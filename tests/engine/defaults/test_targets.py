"""What a model learns from, and datasets that lack it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.config import CfgNode
from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.data.formats.label_maps import write_label_map
from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.defaults.targets import check_targets, check_test_sets, with_targets
from drivetrain.errors import ConfigError, DatasetError
from drivetrain.structures import BoxMode

NAME = "targets_of_tests"
OBJECT = {
    "bbox": [1.0, 1.0, 9.0, 9.0],
    "bbox_mode": BoxMode.XYXY_ABS,
    "category_id": 0,
    "segmentation": [[1.0, 1, 9, 1, 9, 9]],
    "keypoints": [2.0, 2, 2, 3, 3, 1],
}
CROWD = {"bbox": [0.0, 0.0, 5.0, 5.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 1}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)
    if NAME in MetadataCatalog:
        MetadataCatalog.remove(NAME)


def config(model: str, *annotations: dict[str, Any], names: tuple[str, ...] = ("thing",), **keys: Any) -> CfgNode:
    record = {"file_name": "a.jpg", "image_id": 1, "height": 20, "width": 20, **keys}
    if annotations:
        record["annotations"] = list(annotations)
    DatasetCatalog.register(NAME, lambda: [record])
    MetadataCatalog.get(NAME).set(thing_classes=list(names), keypoint_names=["left", "right"])
    cfg = get_cfg()
    cfg.MODEL.NAME, cfg.DATASETS.TRAIN = model, (NAME,)
    return cfg


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in OBJECT.items() if k != key}


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        ("fcos_tiny", ("boxes",)),
        ("mask_rcnn_tiny", ("boxes", "masks")),
        ("keypoint_rcnn_tiny", ("boxes", "keypoints")),
        ("lraspp_tiny", ("sem_seg",)),
        ("classifier_tiny", ("classes",)),
    ],
)
def test_the_model_says_what_it_learns_from(model: str, targets: tuple[str, ...]) -> None:
    cfg = config(model, OBJECT)
    cfg.freeze()
    resolved = with_targets(cfg)
    assert targets == resolved.MODEL.TARGETS and resolved.is_frozen() and cfg.MODEL.TARGETS == ()
    assert (2 if "keypoints" in targets else 0) == resolved.MODEL.NUM_KEYPOINTS


def test_what_the_config_says_stays() -> None:
    cfg = config("mask_rcnn_tiny", OBJECT)
    cfg.MODEL.TARGETS = ("boxes",)
    assert with_targets(cfg).MODEL.TARGETS == ("boxes",)


def test_datasets_that_have_it_pass() -> None:
    for model, keys in (("mask_rcnn_tiny", {}), ("lraspp_tiny", {"sem_seg_file_name": "a.png"})):
        check_targets(with_targets(config(model, OBJECT, CROWD, **keys)))
        DatasetCatalog.remove(NAME)
    cfg = config("keypoint_rcnn_tiny", OBJECT, CROWD)
    cfg.DATASETS.TEST, cfg.TEST.KEYPOINT_OKS_SIGMAS = (NAME,), [0.05, 0.05]
    check_targets(with_targets(cfg))


@pytest.mark.parametrize(
    ("model", "annotations", "message"),
    [
        ("mask_rcnn_tiny", [OBJECT, without("segmentation")], r"an object in 'a.jpg' has no 'segmentation'"),
        ("keypoint_rcnn_tiny", [without("keypoints")], r"an object in 'a.jpg' has no 'keypoints'"),
        ("keypoint_rcnn_tiny", [{**OBJECT, "keypoints": [1, 1, 2]}], r"has 1 keypoints, and the model has 2"),
        ("lraspp_tiny", [OBJECT], r"'lraspp_tiny' learns from sem_seg, and dataset .* has none: .*format sem_seg"),
        ("classifier_tiny", [OBJECT], r"learns from classes, .* has none: .*format folder"),
        ("fcos_tiny", [], r"learns from boxes, and dataset .* has none"),
    ],
)
def test_datasets_that_lack_it(model: str, annotations: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        check_targets(with_targets(config(model, *annotations)))


def test_each_keypoint_needs_a_tolerance() -> None:
    cfg = config("keypoint_rcnn_tiny", OBJECT)
    cfg.DATASETS.TEST = (NAME,)
    with pytest.raises(ConfigError, match=r"KEYPOINT_OKS_SIGMAS has 0 numbers, and objects have 2 keypoints"):
        check_targets(with_targets(cfg))


@pytest.mark.parametrize(("highest", "ignored", "fine"), [(3, 255, True), (4, 255, False), (4, 4, True)])
def test_labels_without_names_are_compared_with_the_models_classes(
    highest: int, ignored: int, fine: bool, tmp_path: Path
) -> None:
    labels = np.full((20, 20), highest, dtype=np.uint8)
    write_label_map(tmp_path / "a.png", labels)
    cfg = config("lraspp_tiny", sem_seg_file_name=str(tmp_path / "a.png"))
    cfg.MODEL.NUM_CLASSES, MetadataCatalog.get(NAME).ignore_label = 4, ignored
    if fine:
        check_targets(with_targets(cfg))
        return
    with pytest.raises(DatasetError, match=r"a.png' has the labels 4, but there are 4 classes"):
        check_targets(with_targets(cfg))


def with_test_set(model: str, classes: int, **metadata: Any) -> CfgNode:
    """A config for a model that is tested on a dataset of two classes and two keypoints."""
    cfg = config(model, OBJECT, names=("a", "b"))
    MetadataCatalog.get(NAME).set(**metadata)
    cfg.DATASETS.TEST, cfg.MODEL.NUM_CLASSES = (NAME,), classes
    return with_targets(cfg)


@pytest.mark.parametrize(
    ("model", "evaluator"),
    [
        ("fcos_tiny", "coco"),
        ("fcos_tiny", "pascal_voc"),
        ("mask_rcnn_tiny", "lvis"),
        ("classifier_tiny", "classification"),
        ("lraspp_tiny", "sem_seg"),
        ("mask2former_panoptic_tiny", "coco_panoptic_seg"),
        ("lraspp_tiny", "coco_panoptic_seg"),
        ("fcos_tiny", "ones_own"),
    ],
)
def test_test_sets_that_fit_pass(model: str, evaluator: str) -> None:
    check_test_sets(with_test_set(model, 2, evaluator_type=evaluator))


@pytest.mark.parametrize(
    ("model", "classes", "evaluator", "message"),
    [
        ("fcos_tiny", 2, "classification", r"'fcos_tiny' predicts boxes, but test dataset .* evaluates classes"),
        ("fcos_tiny", 2, "coco_panoptic_seg", r"predicts boxes, but .* evaluates panoptic or sem_seg"),
        ("classifier_tiny", 2, "coco", r"predicts classes, but .* evaluates boxes or masks or keypoints"),
        ("fcos_tiny", 3, "coco", r"MODEL.NUM_CLASSES is 3, but test dataset .* has 2 classes"),
        ("fcos_tiny", 1, "coco", r"MODEL.NUM_CLASSES is 1, but test dataset .* has 2 classes"),
    ],
)
def test_test_sets_that_do_not_fit(model: str, classes: int, evaluator: str, message: str) -> None:
    with pytest.raises((DatasetError, ConfigError), match=message):
        check_test_sets(with_test_set(model, classes, evaluator_type=evaluator))


def test_a_test_set_of_other_keypoints() -> None:
    cfg = with_test_set("keypoint_rcnn_tiny", 2)
    check_test_sets(cfg)
    cfg.MODEL.NUM_KEYPOINTS = 17
    with pytest.raises(DatasetError, match=r"has 2 keypoints, and the model has 17 \(MODEL.NUM_KEYPOINTS\)"):
        check_test_sets(cfg)


@pytest.mark.parametrize("names", [["b", "a"], ["a", "c"], ["a", "b"]])
def test_classes_of_the_test_set_are_those_of_the_training(names: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """The same in another order would give every prediction to the wrong class; other names are told."""
    cfg = config("fcos_tiny", OBJECT, names=("a", "b"))
    MetadataCatalog.get("tested").set(thing_classes=names, evaluator_type="coco")
    cfg.DATASETS.TEST, cfg.MODEL.NUM_CLASSES = ("tested",), 2
    if names == ["b", "a"]:
        with pytest.raises(DatasetError, match=r"class 0 of test dataset 'tested' is 'b', and of the training 'a'"):
            check_test_sets(cfg)
        return
    check_test_sets(cfg)
    assert ("class 1 of test dataset 'tested' is 'c', and of the training 'b'" in caplog.text) == (names[1] == "c")
