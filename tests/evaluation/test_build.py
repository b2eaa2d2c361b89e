from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drivetrain.data.catalog import DatasetCatalog, MetadataCatalog
from drivetrain.errors import DatasetError
from drivetrain.evaluation import (
    ClassificationEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    SemSegEvaluator,
    build_evaluator,
)


def config(*tests: str, **test: Any) -> Any:
    return SimpleNamespace(OUTPUT_DIR="out", DATASETS=SimpleNamespace(TEST=tests), TEST=test)


def test_by_evaluator_type(catalog: None) -> None:
    MetadataCatalog.get("val").evaluator_type = "coco"
    evaluator = build_evaluator(config("val", KEYPOINT_OKS_SIGMAS=[0.1]), "val")
    assert isinstance(evaluator, COCOEvaluator)
    assert evaluator._output_dir == Path("out/inference")
    assert evaluator._kpt_oks_sigmas == (0.1,)
    assert build_evaluator(config("val"), "val", "there")._output_dir == Path("there")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("coco", COCOEvaluator),
        ("lvis", LVISEvaluator),
        ("pascal_voc", PascalVOCDetectionEvaluator),
        ("sem_seg", SemSegEvaluator),
        ("coco_panoptic_seg", COCOPanopticEvaluator),
        ("classification", ClassificationEvaluator),
    ],
)
def test_every_type(catalog: None, kind: str, expected: type) -> None:
    MetadataCatalog.get("val").set(evaluator_type=kind, thing_classes=["a"], stuff_classes=["b"])
    evaluator = build_evaluator(config("val"), "val")
    assert type(evaluator) is expected
    folder = None if kind == "classification" else Path("out/inference")  # which writes no file
    assert evaluator._output_dir == folder  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"panoptic_root": "x", "thing_classes": ["a"], "stuff_classes": ["a"]}, COCOPanopticEvaluator),
        ({"json_file": "x", "stuff_classes": ["a"]}, COCOEvaluator),
        ({"thing_classes": ["a"], "stuff_classes": ["a"]}, COCOEvaluator),
        ({"stuff_classes": ["a"], "ignore_label": 255}, SemSegEvaluator),
        ({"classes": ["a"]}, ClassificationEvaluator),
    ],
)
def test_what_the_metadata_has_is_enough(catalog: None, metadata: dict[str, Any], expected: type) -> None:
    MetadataCatalog.get("val").set(**metadata)
    assert type(build_evaluator(config("val"), "val")) is expected


def test_a_semantic_model_on_panoptic_data(catalog: None) -> None:
    MetadataCatalog.get("val").set(evaluator_type="coco_panoptic_seg", stuff_classes=["a"])

    def chosen(*targets: str) -> type:
        cfg = config("val")
        cfg.MODEL = {"TARGETS": targets}
        return type(build_evaluator(cfg, "val"))

    assert chosen("sem_seg") is SemSegEvaluator
    assert chosen("panoptic") is chosen("sem_seg", "panoptic") is chosen() is COCOPanopticEvaluator


def test_each_of_several_datasets_has_a_folder(catalog: None) -> None:
    for name in ("val", "../odd name"):
        MetadataCatalog.get(name).evaluator_type = "coco"
    folders = [build_evaluator(config("val", "../odd name"), n)._output_dir for n in ("val", "../odd name")]  # type: ignore[attr-defined]
    assert folders == [Path("out/inference/val"), Path("out/inference/__odd_name")]
    text = SimpleNamespace(OUTPUT_DIR="out", DATASETS=SimpleNamespace(TEST="val"), TEST={})
    assert build_evaluator(text, "val")._output_dir == Path("out/inference")  # type: ignore[attr-defined]


def test_class_names_are_enough(catalog: None) -> None:
    DatasetCatalog.register("own", list)
    MetadataCatalog.get("own").thing_classes = ["a"]
    assert isinstance(build_evaluator(config("own"), "own"), COCOEvaluator)


def test_unknown_type_and_unknown_name(catalog: None) -> None:
    MetadataCatalog.get("val").evaluator_type = "cocoo"
    with pytest.raises(
        DatasetError, match=r"dataset 'val' has the evaluator_type 'cocoo'; did you mean 'coco'.*known: coco"
    ):
        build_evaluator(config("val"), "val")
    DatasetCatalog.register("bare", list)
    with pytest.raises(DatasetError, match="dataset 'bare' has the evaluator_type None"):
        build_evaluator(config("bare"), "bare")
    with pytest.raises(DatasetError, match="no dataset 'bar' is registered; did you mean 'bare'"):
        build_evaluator(config("bar"), "bar")
    assert "bar" not in MetadataCatalog
