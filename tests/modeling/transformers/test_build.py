"""From a config to a model: bases, types, tasks and backbones."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from drivetrain.errors import MissingDependencyError, ModelError
from drivetrain.modeling.transformers import (
    TransformersClassifier,
    TransformersDetector,
    TransformersSegmenter,
    TransformersSemanticSegmenter,
)
from drivetrain.modeling.transformers.build import _kind


@pytest.mark.parametrize(
    ("name", "options", "adapter", "net"),
    [
        ("dfine_tiny", {}, TransformersDetector, "DFineForObjectDetection"),
        ("mask2former_tiny", {}, TransformersSegmenter, "Mask2FormerForUniversalSegmentation"),
        ("mask2former_semantic_tiny", {}, TransformersSegmenter, "Mask2FormerForUniversalSegmentation"),
        ("segformer_tiny", {}, TransformersSemanticSegmenter, "SegformerForSemanticSegmentation"),
        ("vit_tiny", {}, TransformersClassifier, "ViTForImageClassification"),
        (
            "transformers_detection",
            {"BASE": "rt_detr_v2_tiny", "backbone": "timm/test_resnet"},
            TransformersDetector,
            "RTDetrV2ForObjectDetection",
        ),
        (
            "transformers_classification",
            {"BASE": "segformer", "CONFIG": {"depths": [1, 1, 1, 1]}},
            TransformersClassifier,
            "SegformerForImageClassification",
        ),
    ],
)
def test_names_become_models(name: str, options: dict[str, Any], adapter: type, net: str, build: Any) -> None:
    model = build(name, classes=4, **options)
    assert type(model) is adapter and type(model.net).__name__ == net
    assert model.num_classes == model.net.config.num_labels == 4


def test_fields_of_the_config_win_over_the_bases(build: Any) -> None:
    config = build("dfine_tiny", CONFIG={"num_queries": 11, "decoder_layers": 3}).net.config
    assert (config.num_queries, config.decoder_layers, config.d_model) == (11, 3, 64)


def test_backbones(build: Any, scene: Any) -> None:
    model = build("rt_detr_v2_tiny", backbone="timm/test_convnext")
    assert model.net.config.backbone_config.backbone == "test_convnext"
    assert sum(model(scene()).values()).isfinite()


@pytest.mark.parametrize("name", ["dfine_tiny", "detr", "dab-detr"])
def test_batch_norms_learn_from_scratch_unless_they_are_to_be_frozen(name: str, build: Any) -> None:
    preset, options = (name, {}) if name != "dab-detr" else ("transformers_detection", {"BASE": "dab-detr"})
    options = {**options, "backbone": "timm/test_resnet"}
    live, frozen = (build(preset, norm=norm, **options).net.model.backbone for norm in ("", "FrozenBN"))
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in live.modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in frozen.modules())
    assert any("FrozenBatchNorm" in type(m).__name__ for m in frozen.modules())


def test_norms_with_an_activation_keep_it(build: Any, scene: Any) -> None:
    """timm's joined norms would lose their activation where the library freezes them."""
    from timm.layers import BatchNormAct2d

    model = build("detr", backbone="timm/test_efficientnet", CONFIG={"encoder_layers": 1, "decoder_layers": 1})
    assert any(isinstance(m, BatchNormAct2d) for m in model.net.model.backbone.modules())
    assert sum(model(scene()).values()).isfinite()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("transformers_detection", {"BASE": "rt_detr_v3"}, "neither a folder .*did you mean 'rt_detr_v2'"),
        (
            "transformers_detection",
            {"BASE": "segformer_tiny"},
            "'detection', but .* of type 'segformer' are not for it",
        ),
        ("transformers_semantic", {"BASE": "d_fine"}, "'semantic', but .*types that are: .*segformer"),
        ("transformers_panoptic", {"BASE": "segformer"}, "types that are: mask2former, maskformer"),
        ("rf_detr", {"norm": "FrozenBN"}, "NORM is 'FrozenBN', which rf_detr does not have"),
        ("segformer", {"backbone": "timm/test_resnet"}, "segformer has a backbone of its own"),
        ("mask2former_tiny", {"CONFIG": {"feature_size": 48}}, "cannot build a mask2former .*divisible"),
    ],
)
def test_errors(name: str, options: dict[str, Any], message: str, build: Any) -> None:
    with pytest.raises(ModelError, match=message):
        build(name, **options)


def test_a_task_that_there_is_not() -> None:
    with pytest.raises(ModelError, match=r"TASK 'detecting' is not one of .*did you mean 'detection'"):
        _kind("detecting", "d_fine")


def test_a_folder_has_its_own_backbone(build: Any, tmp_path: Any) -> None:
    for options in ({"backbone": "timm/test_resnet"}, {"norm": "FrozenBN"}):
        with pytest.raises(ModelError, match="do not apply to the saved model"):
            build("transformers_detection", BASE=str(tmp_path), **options)


def test_a_missing_library_names_the_model_and_the_extra(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"'dfine_tiny' needs transformers, .*drivetrain\[transformers\]"):
        build("dfine_tiny")
