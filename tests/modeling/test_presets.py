"""The named models: all of them are described, and the tiny ones are tiny."""

from __future__ import annotations

import importlib

import pytest

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.modeling import build_model
from drivetrain.modeling.presets import LIBRARIES, PRESETS

TINY = [name for name in PRESETS if name.endswith("_tiny")]
# Keys that a section of the config may not have yet.
OWN_SECTIONS = ("ROI_MASK_HEAD.", "ROI_KEYPOINT_HEAD.", "SEM_SEG_HEAD.")
TARGETS = {
    "ssd300_vgg16": ("boxes",),
    "mask_rcnn_resnet50_fpn": ("boxes", "masks"),
    "mask_rcnn_tiny": ("boxes", "masks"),
    "keypoint_rcnn_tiny": ("boxes", "keypoints"),
    "deeplabv3_resnet101": ("sem_seg",),
    "lraspp_tiny": ("sem_seg",),
    "classifier_tiny": ("classes",),
}


def test_every_family_has_its_names() -> None:
    families = ("fcos", "retinanet", "faster_rcnn", "mask_rcnn", "keypoint_rcnn", "ssd")
    assert set(PRESETS) >= {*families, *(f"{family}_tiny" for family in families)}
    assert set(PRESETS) >= {f"{family}_resnet50_fpn" for family in families if family != "ssd"}
    assert set(PRESETS) >= {"ssdlite", "ssdlite320_mobilenet_v3_large", "ssd300_vgg16"}
    assert set(PRESETS) >= {"fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large", "lraspp_tiny"}
    assert set(PRESETS) >= {"classifier", "classifier_tiny"}
    assert set(LIBRARIES) == {"timm", "torchvision"}


def test_values_are_keys_of_the_config_or_known_to_the_builders() -> None:
    known = {info.key.removeprefix("MODEL.") for info in get_cfg().describe()}
    for entry in PRESETS.values():
        assert all(key in known or key.startswith(OWN_SECTIONS) for key in entry.values)


@pytest.mark.parametrize("name", TARGETS)
def test_what_models_learn_from(name) -> None:
    assert PRESETS[name].targets == TARGETS[name]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_builders_exist(name) -> None:
    module, _, function = str(PRESETS[name].builder).partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", TINY)
def test_tiny_models_have_under_a_million_parameters(make_cfg, name) -> None:
    model = build_model(make_cfg(name, MODEL__NUM_CLASSES=20, MODEL__NUM_KEYPOINTS=17))
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
