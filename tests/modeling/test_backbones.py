"""Backbones and the pyramid on top of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drivetrain.errors import ModelError
from drivetrain.modeling.backbones import FeaturePyramid, build_body, pick_levels

TINY = "timm/test_resnet"


def frozen(module: nn.Module) -> list[str]:
    return [name for name, p in module.named_parameters() if not p.requires_grad]


def test_pyramid_levels_have_one_width_and_their_strides() -> None:
    body = build_body(TINY, (4, 8, 16, 32))
    pyramid = FeaturePyramid(body, 24).eval()
    levels = pyramid(torch.rand(1, 3, 64, 96))
    assert list(levels) == ["0", "1", "2", "3"]
    for stride, level in zip((4, 8, 16, 32), levels.values(), strict=True):
        assert level.shape == (1, 24, 64 // stride, 96 // stride)


def test_freezing_stops_gradients_and_statistics() -> None:
    body = build_body(TINY, (8, 16), freeze_at=2)
    names = frozen(body.module)
    assert names
    assert {n.split(".")[1] for n in names} == {"conv1", "layer1"}  # batch norm weights are buffers now
    assert all(p.requires_grad for n, p in body.module.named_parameters() if n.split(".")[1] in ("layer2", "layer3"))
    statistics = {n: b.clone() for n, b in body.module.named_buffers() if "running" in n}
    body.module.train()(torch.rand(2, 3, 64, 64))
    changed = {n.split(".")[1] for n, b in body.module.named_buffers() if "running" in n and not b.equal(statistics[n])}
    assert changed == {"layer2", "layer3"}


def test_resnet_freezes_stem_then_stages() -> None:
    parts = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    for freeze_at, count in ((0, 0), (1, 2), (2, 3), (3, 4)):
        body = build_body("resnet18", (8, 16, 32), freeze_at=freeze_at)
        still = {n.split(".")[0] for n, m in body.module.named_modules() if isinstance(m, nn.BatchNorm2d)}
        assert still == set(parts[count:]) - {"conv1"}
        assert set(frozen(body.module)) == {
            n for n, _ in body.module.named_parameters() if n.split(".")[0] in parts[:count]
        }


@pytest.mark.parametrize("name", [TINY, "timm/test_byobnet", "resnet18"])
def test_frozen_batch_norm(name) -> None:
    body = build_body(name, (8, 16), norm="FrozenBN")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in body.module.modules())
    before = {n: b.clone() for n, b in body.module.named_buffers()}
    body.module.train()(torch.rand(1, 3, 64, 64))
    assert all(b.equal(before[n]) for n, b in body.module.named_buffers())


def test_norm_and_freeze_options_that_do_not_apply() -> None:
    with pytest.raises(ModelError, match="'LN' is not one of"):
        build_body(TINY, (8,), norm="LN")
    with pytest.raises(ModelError, match="has no batch norm"):
        build_body("timm/test_convnext", (8, 16), norm="FrozenBN")


def test_levels() -> None:
    assert pick_levels([2, 4, 8, 8, 16], (8, 16, 32), "x") == [3, 4]
    with pytest.raises(ModelError, match=r"'x'.*strides \[8, 16\], but \[4, 8\]"):
        pick_levels([8, 16], (4, 8), "x")
    with pytest.raises(ModelError, match="fewer levels"):
        pick_levels([4], (8,), "x")
