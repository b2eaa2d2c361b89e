"""What model names stand for."""

from __future__ import annotations

import pytest
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling.entry import TARGETS, ModelEntry, preset


def test_builders_are_imported_when_used() -> None:
    assert ModelEntry("collections:OrderedDict").load().__name__ == "OrderedDict"
    assert ModelEntry(nn.Identity).load() is nn.Identity


def test_a_model_learns_boxes_unless_it_says_otherwise() -> None:
    assert ModelEntry(nn.Identity).targets == ("boxes",)
    assert ModelEntry(nn.Identity, targets=("boxes", "masks")).targets == ("boxes", "masks")
    assert ModelEntry(nn.Identity, targets=tuple(TARGETS)).targets == tuple(TARGETS)


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(ModelError, match=r"learn from 'mask'; did you mean 'masks'\?.* \(known: boxes, masks"):
        ModelEntry(nn.Identity, targets=("mask",))


def test_presets_are_written_briefly() -> None:
    entry = preset("torchvision.fcos:build_fcos", ("boxes", "masks"), BACKBONE__NAME="x", WEIGHTS="y")
    assert entry.builder == "drivetrain.modeling.torchvision.fcos:build_fcos"
    assert dict(entry.values) == {"BACKBONE.NAME": "x", "WEIGHTS": "y"}
    assert entry.targets == ("boxes", "masks")
    with pytest.raises(TypeError):
        entry.values["WEIGHTS"] = ""
