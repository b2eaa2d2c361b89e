"""Where the configs of models with random weights start from.

The names without ``_tiny`` are the library's own default sizes. The ``*_tiny`` ones have fewer than a million
parameters and learn from scratch within minutes on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

__all__ = ["BASES", "Base"]


@dataclass(frozen=True)
class Base:
    """Where the config of a model with random weights starts from.

    Attributes:
        model_type: the library's.
        fields: of the library's config class, where they differ from its defaults.
    """

    model_type: str
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def _base(model_type: str, **fields: Any) -> Base:
    return Base(model_type, MappingProxyType(fields))


_SMALL_HYBRID: Mapping[str, Any] = MappingProxyType(
    {
        "d_model": 64,
        "encoder_hidden_dim": 64,
        "encoder_ffn_dim": 128,
        "encoder_attention_heads": 4,
        "hidden_expansion": 0.5,
        "decoder_in_channels": [64, 64, 64],
        "decoder_ffn_dim": 128,
        "decoder_attention_heads": 4,
        "decoder_layers": 2,
        "num_queries": 60,
        "num_denoising": 40,
    }
)

# The library's 0.02 suits layers many times as wide: narrow ones, and SegFormer's convolutions of one channel each,
# pass on less than a third of what comes in, and learn slowly.
_INITIALIZER_RANGE = 0.1

BASES: Mapping[str, Base] = MappingProxyType(
    {
        "rt_detr_v2": _base("rt_detr_v2"),
        "rt_detr_v2_tiny": _base("rt_detr_v2", **_SMALL_HYBRID),
        "dfine": _base("d_fine"),
        "dfine_tiny": _base("d_fine", depth_mult=0.34, **_SMALL_HYBRID),
        "detr": _base("detr"),
        "deformable_detr": _base("deformable_detr"),
        "rf_detr": _base("rf_detr"),
        "mask2former": _base("mask2former"),
        "mask2former_tiny": _base(
            "mask2former",
            feature_size=64,
            mask_feature_size=64,
            hidden_dim=64,
            encoder_layers=1,
            encoder_feedforward_dim=128,
            decoder_layers=3,
            dim_feedforward=128,
            num_attention_heads=4,
            num_queries=20,
            train_num_points=1024,
        ),
        "segformer": _base("segformer"),
        "segformer_tiny": _base(
            "segformer",
            depths=[1, 1, 1, 1],
            hidden_sizes=[32, 48, 64, 96],
            num_attention_heads=[1, 2, 4, 4],
            mlp_ratios=[4, 4, 4, 2],
            decoder_hidden_size=64,
            drop_path_rate=0.0,
            classifier_dropout_prob=0.0,
            initializer_range=_INITIALIZER_RANGE,
        ),
        "upernet": _base("upernet"),
        "upernet_tiny": _base("upernet", hidden_size=48, auxiliary_channels=32),
        "vit": _base("vit"),
        "vit_tiny": _base(
            "vit",
            hidden_size=96,
            num_hidden_layers=6,
            num_attention_heads=3,
            intermediate_size=192,
            image_size=128,
            patch_size=16,
            initializer_range=_INITIALIZER_RANGE,
        ),
    }
)
"""Name -> where its config starts from."""
