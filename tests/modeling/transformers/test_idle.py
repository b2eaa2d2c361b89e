"""Parameters that no loss reaches: found in the library's models by the gradients that they do not get."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drivetrain.modeling.transformers.idle import freeze_idle

SWIN = {
    "model_type": "swin",
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 2],
    "window_size": 4,
    "image_size": 64,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mask2former": (
        "mask2former",
        {
            "CONFIG": {
                "backbone_config": SWIN,
                "feature_size": 32,
                "mask_feature_size": 32,
                "hidden_dim": 32,
                "encoder_layers": 1,
                "decoder_layers": 2,
                "num_queries": 5,
                "train_num_points": 64,
            }
        },
    ),
    "upernet": (
        "segformer",
        {"BASE": "upernet", "CONFIG": {"backbone_config": SWIN, "hidden_size": 16, "auxiliary_channels": 16}},
    ),
    "mobilenet_v2": ("segformer", {"BASE": "mobilenet_v2", "CONFIG": {"depth_multiplier": 0.25}}),
    "swin classifier": (
        "vit",
        {
            "BASE": "swin",
            "CONFIG": {k: v for k, v in SWIN.items() if k not in ("model_type", "out_features")},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_gets_no_gradient_does_not_ask_for_one(name: str, build: Any, scene: Any) -> None:
    """And what gets one still does."""
    preset, options = CASES[name]
    model = build(preset, **options)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert bool(frozen) == (name != "swin classifier")
    model.requires_grad_(True)
    sum(model(scene(((128, 128), (128, 128)))).values()).backward()
    assert {n for n, p in model.named_parameters() if p.grad is None} == frozen


def test_other_models_stay_as_they_are() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2))
    freeze_idle(net)
    assert all(p.requires_grad for p in net.parameters())
