"""The keys of a training's config."""

from __future__ import annotations

import re
from typing import Any

import pytest

from drivetrain.config import CfgNode
from drivetrain.engine.defaults.schema import Root
from drivetrain.errors import ConfigError

# Written down a second time, by hand, so that no default changes unnoticed: code written for detectron2 counts on them.
SAME_AS_DETECTRON2 = {
    "VERSION": 2,
    "OUTPUT_DIR": "./output",
    "SEED": -1,
    "CUDNN_BENCHMARK": False,
    "FLOAT32_PRECISION": "",
    "VIS_PERIOD": 0,
    "MODEL.WEIGHTS": "",
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "INPUT.RANDOM_FLIP": "horizontal",
    "INPUT.CROP.ENABLED": False,
    "INPUT.CROP.TYPE": "relative_range",
    "INPUT.MASK_FORMAT": "polygon",
    "DATASETS.TRAIN": (),
    "DATASETS.TEST": (),
    "DATALOADER.NUM_WORKERS": 4,
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": True,
    "DATALOADER.SAMPLER_TRAIN": "TrainingSampler",
    "DATALOADER.REPEAT_THRESHOLD": 0.0,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.MAX_ITER": 40000,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.BASE_LR_END": 0.0,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.NESTEROV": False,
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.WEIGHT_DECAY_BIAS": None,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
    "SOLVER.STEPS": (30000,),
    "SOLVER.GAMMA": 0.1,
    "SOLVER.NUM_DECAYS": 3,
    "SOLVER.RESCALE_INTERVAL": False,
    "SOLVER.WARMUP_FACTOR": 0.001,
    "SOLVER.WARMUP_ITERS": 1000,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.CHECKPOINT_PERIOD": 5000,
    "SOLVER.AMP.ENABLED": False,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "value",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 1.0,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 2.0,
    "SOLVER.REFERENCE_WORLD_SIZE": 0,
    "TEST.EVAL_PERIOD": 0,
    "TEST.DETECTIONS_PER_IMAGE": 100,
    "TEST.EXPECTED_RESULTS": [],
    "TEST.PRECISE_BN.ENABLED": False,
    "TEST.PRECISE_BN.NUM_ITER": 200,
}


def make() -> CfgNode:
    return CfgNode.from_schema(Root)


@pytest.mark.parametrize("key", SAME_AS_DETECTRON2)
def test_defaults_are_those_that_code_counts_on(key: str) -> None:
    value: Any = make()
    for part in key.split("."):
        value = value[part]
    assert value == SAME_AS_DETECTRON2[key]
    assert type(value) is type(SAME_AS_DETECTRON2[key])


def test_the_defaults_are_valid_and_every_key_is_explained() -> None:
    make().validate()
    described = list(make().describe())
    assert len(described) > 70
    docs = [info.doc for info in described]
    assert all(re.search(r"\w.{8}", doc) for doc in docs), docs
    full = [path for path, _ in make().leaves()]
    assert [tuple(info.key.split(".")) for info in described] == full


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("TEST.EVAL_PERIOD", -5, "must be iterations"),
        ("WATCHDOG", -1, 'must be seconds, 0 for off, or "auto", received -1'),
        ("WATCHDOG", "on", "must be seconds, 0 for off, or \"auto\", received 'on'"),
        ("VERSION", 1, "VERSION must be one of 2, received 1"),
    ],
)
def test_values_that_cannot_be_are_refused(key: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        make().merge_from_list([key, value])
    assert str(error.value).startswith(f"override {key} ")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("SOLVER.MAX_ITER", "12ep", "12ep"),
        ("SOLVER.WARMUP_ITERS", "0.5ep", "0.5ep"),
        ("SOLVER.BASE_LR", "1e-4", 1e-4),
        ("SOLVER.STEPS", "(60000, 80000)", (60000, 80000)),
        ("SOLVER.STEPS", "[]", ()),
        ("WATCHDOG", "600", 600.0),
        ("WATCHDOG", "0", 0.0),
        ("WATCHDOG", "auto", "auto"),
        ("SOLVER.WEIGHT_DECAY_BIAS", "None", None),
        ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "inf", float("inf")),
        ("DATASETS.TRAIN", "blood_train", ("blood_train",)),
        ("DATASETS.TRAIN", "('a', 'b')", ("a", "b")),
        ("INPUT.MIN_SIZE_TRAIN", "640", (640,)),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64]]", [[32.0], [64.0]]),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 38.5, 0.2]]", [["bbox", "AP", 38.5, 0.2]]),
        ("DATASETS.REGISTER", "{a: {json: a.json, images: dir}}", {"a": {"json": "a.json", "images": "dir"}}),
        ("MODEL.WEIGHTS", "detectron2://a/b.pkl", "detectron2://a/b.pkl"),
    ],
)
def test_values_as_people_type_them(key: str, typed: str, value: Any) -> None:
    cfg: Any = make()
    cfg.merge_from_list([key, typed])
    for part in key.split("."):
        cfg = cfg[part]
    assert cfg == value


def test_keys_of_detectron2_that_are_elsewhere_here_are_pointed_to() -> None:
    with pytest.raises(ConfigError) as error:
        make().merge_from_list(["MODEL.ROI_HEADS.NUM_CLASSES", "3", "BASE_LR", "0.1"])
    assert "did you mean 'MODEL.NUM_CLASSES'?" in str(error.value)
    assert "did you mean 'SOLVER.BASE_LR'?" in str(error.value)
