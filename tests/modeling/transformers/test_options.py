"""Config keys become options."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.errors import ModelError
from drivetrain.modeling.transformers.options import TransformersOptions


def test_keys_arrive(make_transformers_cfg: Any) -> None:
    cfg = make_transformers_cfg(
        "mask2former_panoptic_tiny",
        classes=9,
        fmt="BGR",
        CONFIG={"num_queries": 5, "backbone_config": {"depths": (1, 2)}},
        STUFF_CLASSES=[3, 4],
        SEGMENT_SCORE=0.3,
        SEGMENT_VISIBLE=0.2,
    )
    cfg.TEST.DETECTIONS_PER_IMAGE = 11
    cfg.MODEL.SCORE_THRESH_TEST = 0.25
    options = TransformersOptions.from_cfg(cfg)
    assert options.base == "mask2former_tiny" and options.task == "panoptic" and options.num_classes == 9
    assert options.fields == {"num_queries": 5, "backbone_config": {"depths": [1, 2]}}
    assert type(options.fields) is dict and type(options.fields["backbone_config"]) is dict
    assert (options.stuff_classes, options.segment_score, options.segment_visible) == ((3, 4), 0.3, 0.2)
    assert (options.backbone, options.bgr) == ("timm/test_resnet", True)
    assert (options.detections_per_image, options.score_thresh) == (11, 0.25)
    assert (options.mask_format, options.ignore_label) == ("bitmask", 255)
    assert options.pixel_mean == (123.675, 116.28, 103.53) and len(options.pixel_std) == 3


def test_the_base_may_stand_in_the_models_name(make_transformers_cfg: Any) -> None:
    cfg = make_transformers_cfg("transformers_detection")
    cfg.MODEL.NAME = "transformers/output/run 1"
    assert TransformersOptions.from_cfg(cfg).base == "output/run 1"
    cfg.MODEL.BACKBONE.NAME = cfg.MODEL.NAME  # as the registry passes on names with a prefix
    assert TransformersOptions.from_cfg(cfg).backbone == ""
    cfg.MODEL.NAME = "mine"
    assert TransformersOptions.from_cfg(cfg).base == "output/run 1"
    cfg.MODEL.TRANSFORMERS.BASE = "d_fine"
    assert TransformersOptions.from_cfg(cfg).base == "d_fine"


def test_errors(make_transformers_cfg: Any) -> None:
    with pytest.raises(ModelError, match=r"'transformers_semantic' needs MODEL\.TRANSFORMERS\.BASE: a folder"):
        TransformersOptions.from_cfg(make_transformers_cfg("transformers_semantic"))
    cfg = make_transformers_cfg("dfine_tiny")
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    with pytest.raises(ModelError, match="FREEZE_AT is 2, but transformers models do not tell"):
        TransformersOptions.from_cfg(cfg)
