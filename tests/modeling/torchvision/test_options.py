"""Reading a detector's options from a config."""

from __future__ import annotations

import pytest

from drivetrain.errors import ModelError
from drivetrain.modeling.torchvision.options import DetectorOptions


def test_values_come_from_their_keys(make_cfg) -> None:
    options = DetectorOptions.from_cfg(
        make_cfg(
            "x",
            MODEL__SCORE_THRESH_TEST=0.3,
            MODEL__NMS_THRESH_TEST=0.4,
            TEST__DETECTIONS_PER_IMAGE=7,
            MODEL__ANCHOR_GENERATOR__SIZES=[[16], [32]],
            MODEL__ANCHOR_GENERATOR__ASPECT_RATIOS=[[0.5, 2.0]],
        )
    )
    assert (options.score_thresh, options.nms_thresh, options.detections_per_image) == (0.3, 0.4, 7)
    assert options.sizes == ((16,), (32,))
    assert options.ratios == ((0.5, 2.0), (0.5, 2.0))
    assert options.strides(4) == (4, 8)
    assert options.num_classes == 3


def test_anchor_lists_are_checked(make_cfg) -> None:
    with pytest.raises(ModelError, match=r"list of lists, one per level, not \[16, 32\]"):
        DetectorOptions.from_cfg(make_cfg("x", MODEL__ANCHOR_GENERATOR__SIZES=[16, 32]))
    with pytest.raises(ModelError, match="has 2 levels and SIZES 3"):
        DetectorOptions.from_cfg(
            make_cfg(
                "x",
                MODEL__ANCHOR_GENERATOR__SIZES=[[1], [2], [3]],
                MODEL__ANCHOR_GENERATOR__ASPECT_RATIOS=[[1.0], [1.0]],
            )
        )
