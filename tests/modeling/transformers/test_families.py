"""What is known of each family of detectors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from drivetrain.errors import ModelError
from drivetrain.modeling.transformers.configs import build_config
from drivetrain.modeling.transformers.families import FAMILIES, TIMM_STRIDES, family_of


def test_sizes_that_networks_can_take() -> None:
    steps = {name: family.step(build_config(name, family.fields, 3)) for name, family in FAMILIES.items()}
    assert steps == {
        **dict.fromkeys(FAMILIES, 32),
        "rf_detr": 14 * 4,  # patches by windows per side
        "lw_detr": 16 * 4,  # 16 windows, 4 per side
        "yolos": 16,
    }
    assert FAMILIES["yolos"].step(SimpleNamespace(patch_size=[8, 12])) == 12


def test_every_type_on_timm_is_one_that_the_library_has() -> None:
    for name in TIMM_STRIDES:
        assert "backbone_config" in vars(build_config(name, {}, 3)), name


def test_a_family_that_is_not_known() -> None:
    assert family_of("d_fine").frame == "padded"
    with pytest.raises(ModelError, match="'rt_detr_v3' cannot be trained here; did you mean 'rt_detr_v2'"):
        family_of("rt_detr_v3")
    with pytest.raises(ModelError, match="known types: detr, "):
        family_of("owlvit")
