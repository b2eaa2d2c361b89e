"""The named models: all of them build, and the tiny ones are tiny."""

from __future__ import annotations

import pytest

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.modeling import build_model
from drivetrain.modeling.presets import PRESETS

TINY = ["faster_rcnn_tiny", "fcos_tiny", "retinanet_tiny"]


def test_every_family_has_its_names() -> None:
    assert set(PRESETS) >= {
        *TINY,
        *("fcos", "retinanet", "faster_rcnn", "ssdlite"),
        *("fcos_resnet50_fpn", "retinanet_resnet50_fpn", "faster_rcnn_resnet50_fpn", "ssdlite320_mobilenet_v3_large"),
    }


def test_values_are_keys_of_the_config_or_known_to_the_builders() -> None:
    known = {info.key.removeprefix("MODEL.") for info in get_cfg().describe()}
    undeclared = {"HEAD.NORM", "HEAD.BATCH_SIZE_PER_IMAGE", "HEAD.NUM_PROPOSALS"}
    for _, values in PRESETS.values():
        assert set(values) <= known | undeclared


@pytest.mark.parametrize("name", TINY)
def test_tiny_models_have_under_a_million_parameters(make_cfg, name) -> None:
    model = build_model(make_cfg(name, MODEL__NUM_CLASSES=20))
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
