"""Configs of the library: fields are checked, nested ones too; timm backbones by name."""

from __future__ import annotations

import pytest

from drivetrain.errors import ModelError
from drivetrain.modeling.transformers.configs import build_config, config_from, merge_fields, timm_backbone
from drivetrain.modeling.transformers.library import config_class


def test_fields_and_classes_arrive() -> None:
    config = build_config("d_fine", {"num_queries": 7, "decoder_n_points": [3, 6, 3]}, 4)
    assert config.num_queries == 7 and config.num_labels == 4 and len(config.id2label) == 4
    assert config.decoder_layers == config_class("d_fine")().decoder_layers
    assert build_config("d_fine", {"num_attention_heads": 4}, 4).encoder_attention_heads == 4


def test_what_is_laid_out_for_one_size_is_not_kept() -> None:
    config = build_config("rt_detr_v2", {"anchor_image_size": [640, 640], "eval_size": 640}, 4)
    assert config.anchor_image_size is None and config.eval_size is None


def test_a_saved_config_takes_the_place_of_the_defaults() -> None:
    saved = build_config("d_fine", {"num_queries": 7, "dropout": 0.5}, 4).to_dict()
    before = repr(saved)
    config = build_config("d_fine", {"dropout": 0.25}, 9, saved=saved)
    assert (config.num_queries, config.dropout, config.num_labels, len(config.id2label)) == (7, 0.25, 9, 9)
    assert repr(saved) == before
    saved["id2label"] = {"0": "a", "1": "b", "2": "c", "3": "d"}
    assert build_config("d_fine", {}, 4, saved=saved).id2label == {0: "a", 1: "b", 2: "c", 3: "d"}


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        (
            "d_fine",
            {"num_querys": 5},
            r"CONFIG\.num_querys is not a field of .* DFineConfig; did you mean 'num_queries'",
        ),
        ("d_fine", {"qqqqqq": 5}, "it has activation_dropout, "),
        ("d_fine", {"num_queries": "many"}, r"\(MODEL\.TRANSFORMERS\.CONFIG\).*expected int, got str"),
        ("d_fine", {"d_model": 63}, "must be divisible"),
        ("d_fine", {"num_labels": 5}, r"CONFIG\.num_labels is set by MODEL\.NUM_CLASSES"),
        ("d_fine", {"backbone_config": {"depths": [1]}}, r"backbone_config needs a model_type"),
        ("d_fine", {"backbone_config": {"model_type": "swim"}}, "no model type 'swim'; did you mean 'swin'"),
        (
            "d_fine",
            {"backbone_config": {"model_type": "swin", "depth": [1]}},
            r"backbone_config\.depth is not a field of .* SwinConfig; did you mean 'depths'",
        ),
        ("d_fin", {}, "no model type 'd_fin'; did you mean 'd_fine'"),
    ],
)
def test_wrong_fields(model_type: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_config(model_type, fields, 3)


def test_the_source_of_a_bad_config_is_named() -> None:
    with pytest.raises(ModelError, match=r"DFineConfig does not take these values \(some/config\.json\)"):
        config_from(config_class("d_fine"), {"d_model": "a"}, "some/config.json")


def test_nested_fields_are_merged_within_one_type() -> None:
    base = {"a": 1, "backbone_config": {"model_type": "swin", "depths": [2], "embed_dim": 96}}
    assert merge_fields(base, {"backbone_config": {"depths": [1]}}) == {
        "a": 1,
        "backbone_config": {"model_type": "swin", "depths": [1], "embed_dim": 96},
    }
    other = {"backbone_config": {"model_type": "resnet", "depths": [1]}}
    assert merge_fields(base, other)["backbone_config"] == other["backbone_config"]
    assert base["backbone_config"]["depths"] == [2]


def test_timm_backbones_give_the_maps_that_a_type_takes() -> None:
    assert timm_backbone("timm/test_resnet", "d_fine")["backbone_config"]["out_indices"] == [2, 3, 4]
    assert timm_backbone("timm/test_resnet", "detr")["backbone_config"]["out_indices"] == [1, 2, 3, 4]
    assert timm_backbone("timm/test_convnext", "d_fine")["backbone_config"] == {
        "model_type": "timm_backbone",
        "backbone": "test_convnext",
        "out_indices": [1, 2, 3],
        "use_pretrained_backbone": False,
    }
    build_config("d_fine", timm_backbone("timm/test_resnet", "d_fine"), 3)


@pytest.mark.parametrize(
    ("name", "model_type", "message"),
    [
        ("timm/test_resnett", "d_fine", "not in timm .*did you mean 'test_resnet'"),
        ("resnet50", "d_fine", r"written 'timm/NAME'"),
        ("timm/test_resnet", "rf_detr", "rf_detr has a backbone of its own"),
        ("timm/test_vit", "d_fine", r"strides \[.*\], but d_fine takes \[8, 16, 32\]"),
        ("timm/swin_tiny_patch4_window7_224", "d_fine", "channels last"),
    ],
)
def test_wrong_backbones(name: str, model_type: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        timm_backbone(name, model_type)
