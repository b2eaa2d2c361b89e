"""Which rate and decay each parameter gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.solver.parameter_groups import get_default_optimizer_params


class Net(nn.Module):
    """Convolutions, norms of several kinds, an embedding, a frozen and a shared parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3)])
        self.group = nn.GroupNorm(2, 4)
        self.rms = nn.RMSNorm(4)
        self.head = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.head.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.head.bias.requires_grad_(False)


def settings(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Parameter name -> its group's settings; fails if a parameter is in two groups."""
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, dict[str, float]] = {}
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in found
            found[name] = {key: value for key, value in group.items() if key != "params"}
    return found


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = Net()
    groups = get_default_optimizer_params(model, base_lr=0.1)
    assert len(groups) == 1
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(settings(model, groups)) == wanted
    assert "head.bias" not in wanted and "tied.weight" not in wanted


def test_norm_and_bias_settings() -> None:
    model = Net()
    groups = get_default_optimizer_params(
        model, base_lr=0.1, weight_decay=1e-4, weight_decay_norm=0.0, bias_lr_factor=2.0, weight_decay_bias=0.5
    )
    found = settings(model, groups)
    assert found["stem.weight"] == found["scale"] == {"lr": 0.1, "weight_decay": 1e-4}
    for norm in ("bn", "group", "rms", "blocks.1.1"):
        assert found[f"{norm}.weight"] == {"lr": 0.1, "weight_decay": 0.0}
    # The bias rule comes last, so it holds for norms too.
    for bias in ("bn.bias", "stem.bias", "tied.bias"):
        assert found[bias] == {"lr": 0.2, "weight_decay": 0.5}
    assert len(groups) == 3


def test_settings_left_out_are_left_to_the_optimizer() -> None:
    groups = get_default_optimizer_params(Net())
    assert [set(group) for group in groups] == [{"params"}]
    groups = get_default_optimizer_params(Net(), weight_decay_norm=0.0)
    assert [set(group) for group in groups] == [{"params"}, {"params", "weight_decay"}]
    torch.optim.SGD(groups, lr=0.1, weight_decay=0.3)


def test_overrides_and_factors_apply_by_name() -> None:
    model = Net()
    overrides = {"scale": {"lr": 7.0}, "weight": {"weight_decay": 3.0}}
    groups = get_default_optimizer_params(
        model,
        base_lr=1.0,
        weight_decay=0.1,
        lr_factor_func=lambda name: 0.5 if name.startswith("stem.") else 1.0,
        overrides=overrides,
    )
    found = settings(model, groups)
    assert found["stem.weight"] == {"lr": 0.5, "weight_decay": 3.0}
    assert found["stem.bias"] == {"lr": 0.5, "weight_decay": 0.1}
    assert found["scale"] == {"lr": 7.0, "weight_decay": 0.1}
    assert overrides == {"scale": {"lr": 7.0}, "weight": {"weight_decay": 3.0}}


def test_a_parameter_of_the_root_has_no_dot_in_its_name() -> None:
    names: list[str] = []
    get_default_optimizer_params(Net(), base_lr=1.0, lr_factor_func=lambda name: names.append(name) or 1.0)  # type: ignore[func-returns-value]
    assert sorted(names) == sorted(name for name, p in Net().named_parameters() if name != "head.bias")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"bias_lr_factor": 2.0}, "bias_lr_factor needs base_lr"),
        ({"lr_factor_func": lambda name: 1.0}, "lr_factor_func needs base_lr"),
        ({"weight_decay_bias": 0.0, "overrides": {"bias": {"lr": 1.0}}}, "contradicts the bias arguments"),
    ],
)
def test_contradictions(arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        get_default_optimizer_params(Net(), **arguments)


def test_a_frozen_model_has_no_groups() -> None:
    assert get_default_optimizer_params(Net().requires_grad_(False), base_lr=0.1) == []
