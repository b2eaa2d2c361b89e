"""Backbones from torchvision."""

from __future__ import annotations

import pytest
import torch
import torchvision

from drivetrain.errors import ModelError
from drivetrain.modeling.torchvision.bodies import torchvision_body


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_feature_maps_are_what_is_promised(name) -> None:
    body = torchvision_body(name, (8, 16, 32, 64, 128))
    assert body.strides == (8, 16, 32)
    maps = body.module.eval()(torch.rand(1, 3, 64, 96))
    assert [m.shape for m in maps] == [
        (1, c, 64 // s, 96 // s) for c, s in zip(body.channels, body.strides, strict=True)
    ]


def test_names_and_values_are_torchvisions() -> None:
    whole = torchvision.models.resnet18(weights=None).eval()
    body = torchvision_body("resnet18", (4, 8, 16, 32)).module.eval()
    result = body.load_state_dict(whole.state_dict(), strict=False)
    assert not result.missing_keys
    assert {k.split(".")[0] for k in result.unexpected_keys} == {"fc"}
    image = torch.rand(1, 3, 64, 64)
    pooled = body(image)[-1].mean(dim=(2, 3))
    assert torch.allclose(whole.fc(pooled), whole(image), atol=1e-5)


def test_cut_off_after_the_last_map_in_use_and_measuring_leaves_no_trace() -> None:
    body = torchvision_body("resnet18", (4, 8))
    assert list(dict(body.module.named_children()))[-1] == "layer2"
    assert body.module.training
    assert all(b.sum() == 0 for n, b in body.module.named_buffers() if "running_mean" in n)


def test_unknown_name() -> None:
    with pytest.raises(ModelError, match=r"'resnet51'.*did you mean 'resnet.*timm/NAME"):
        torchvision_body("resnet51", (8,))
    with pytest.raises(ModelError, match="'vgg16'"):
        torchvision_body("vgg16", (8,))
