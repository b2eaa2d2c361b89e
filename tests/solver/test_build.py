"""Optimizers from a config."""

from __future__ import annotations

import copy
import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.errors import CheckpointError, ConfigError, ModelError
from drivetrain.modeling import build_model
from drivetrain.solver.build import build_optimizer


def make_cfg(clip: bool = False, **solver: Any) -> Any:
    keys: dict[str, Any] = {
        "OPTIMIZER": "SGD",
        "BASE_LR": 0.1,
        "MOMENTUM": 0.9,
        "NESTEROV": False,
        "BETAS": [0.8, 0.9],
        "WEIGHT_DECAY": 0.01,
        "WEIGHT_DECAY_NORM": 0.0,
        "WEIGHT_DECAY_BIAS": None,
        "BIAS_LR_FACTOR": 1.0,
        "LAYER_DECAY": SimpleNamespace(RATE=1.0, LAYERS=()),
        "CLIP_GRADIENTS": SimpleNamespace(ENABLED=clip, CLIP_TYPE="value", CLIP_VALUE=0.01, NORM_TYPE=2.0),
    }
    return SimpleNamespace(SOLVER=SimpleNamespace(**{**keys, **solver}))


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3, generator=generator)).square().sum().backward()
        optimizer.step()


def test_sgd_is_bit_for_bit_the_plain_one() -> None:
    ours, plain = make_model(), make_model()
    norm = list(plain[1].parameters())  # type: ignore[index]
    others = [p for p in plain.parameters() if not any(p is n for n in norm)]
    reference = SGD(
        [{"params": others, "weight_decay": 0.01}, {"params": norm, "weight_decay": 0.0}], lr=0.1, momentum=0.9
    )
    optimizer = build_optimizer(make_cfg(), ours)
    assert type(optimizer) is SGD
    train(ours, optimizer, 5)
    train(plain, reference, 5)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))


def test_adamw_takes_its_keys() -> None:
    cfg = make_cfg(OPTIMIZER="AdamW", BIAS_LR_FACTOR=2.0, WEIGHT_DECAY_BIAS=0.5)
    optimizer = build_optimizer(cfg, make_model())
    assert type(optimizer) is AdamW
    assert all(group["betas"] == (0.8, 0.9) for group in optimizer.param_groups)
    found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(0.1, 0.01), (0.2, 0.5), (0.1, 0.0)]


def rates(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, float]:
    """Parameter name -> learning rate."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_layer_decay_by_named_layers_and_by_those_of_the_model() -> None:
    model = make_model()  # 0 linear, 1 norm, 2 linear
    cfg = make_cfg(LAYER_DECAY=SimpleNamespace(RATE=0.5, LAYERS=("0", "2")), BIAS_LR_FACTOR=2.0)
    assert rates(build_optimizer(cfg, model), model) == pytest.approx(
        {"0.weight": 0.025, "0.bias": 0.05, "1.weight": 0.1, "1.bias": 0.2, "2.weight": 0.05, "2.bias": 0.1}
    )
    deeper = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    cfg = make_cfg(OPTIMIZER="AdamW", LAYER_DECAY=SimpleNamespace(RATE=0.5, LAYERS=()))
    found = rates(build_optimizer(cfg, deeper), deeper)
    assert found == pytest.approx(
        {f"{layer}.{kind}": rate for layer, rate in enumerate((0.025, 0.05, 0.05, 0.1)) for kind in ("weight", "bias")}
    )
    plain = build_optimizer(make_cfg(BIAS_LR_FACTOR=2.0), deeper)
    assert sorted(set(rates(plain, deeper).values())) == [0.1, 0.2]


def test_layer_decay_by_config_keys() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.NUM_CLASSES=3", "MODEL.DEVICE=cpu", "SOLVER.BASE_LR=1.0"])
    model = build_model(cfg)
    assert set(rates(build_optimizer(cfg, model), model).values()) == {1.0}
    cfg.merge_from_list(["SOLVER.LAYER_DECAY.RATE=0.5"])
    found = rates(build_optimizer(cfg, model), model)
    assert {found[n] for n in found if ".layer4." in n} == {0.5}
    assert {found[n] for n in found if ".conv1.0." in n and ".layer" not in n} == {0.5**5}
    assert {found[n] for n in found if not n.startswith("backbone.body.")} == {1.0}
    cfg.merge_from_list(["SOLVER.LAYER_DECAY.LAYERS=['backbone', 'head']"])
    found = rates(build_optimizer(cfg, model), model)
    assert {n.split(".")[0]: rate for n, rate in found.items()} == {"backbone": 0.25, "head": 0.5}


@pytest.mark.parametrize("value", ["0", "-0.5", "1.5", "nan"])
def test_rates_of_layer_decay_that_cannot_be(value: str) -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.LAYER_DECAY\.RATE must be"):
        get_cfg().merge_from_list([f"SOLVER.LAYER_DECAY.RATE={value}"])


def test_sgd_takes_its_keys() -> None:
    optimizer = build_optimizer(make_cfg(NESTEROV=True, MOMENTUM=0.5), make_model())
    assert all(group["nesterov"] and group["momentum"] == 0.5 for group in optimizer.param_groups)


def test_clipping_is_part_of_the_step() -> None:
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(make_cfg(clip=True, WEIGHT_DECAY=0.0), model)
    train(model, optimizer, 1)
    for name, parameter in model.named_parameters():
        assert (parameter - before[name]).abs().max() <= 0.1 * 0.01 + 1e-7


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_resumed_optimizer_goes_on_as_if_never_stopped(name: str) -> None:
    cfg = make_cfg(OPTIMIZER=name)
    model = make_model()
    optimizer = build_optimizer(cfg, model)
    train(model, optimizer, 3)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    train(model, optimizer, 3)

    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = make_model()
    resumed_optimizer = build_optimizer(cfg, resumed)
    resumed.load_state_dict(state["model"])
    resumed_optimizer.load_state_dict(state["optimizer"])
    train(resumed, resumed_optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_a_state_saved_by_a_fused_optimizer_loads_without_turning_this_one_fused() -> None:
    model = make_model()
    fused = AdamW(
        [{"params": group["params"]} for group in build_optimizer(make_cfg(), model).param_groups], fused=True
    )
    train(model, fused, 2)
    optimizer = build_optimizer(make_cfg(OPTIMIZER="AdamW"), model)
    optimizer.load_state_dict(fused.state_dict())
    assert all(group["fused"] is None for group in optimizer.param_groups)
    assert fused.state_dict()["param_groups"][0]["fused"] is True
    train(model, optimizer, 1)
    assert all(state["step"] == 3 for state in optimizer.state.values())


def test_the_state_of_another_optimizer_is_refused() -> None:
    model = make_model()
    optimizer = build_optimizer(make_cfg(), model)
    with pytest.raises(CheckpointError, match="groups of 6 parameters, and this optimizer has groups of 4, 2"):
        optimizer.load_state_dict(SGD(model.parameters(), lr=0.1).state_dict())
    with pytest.raises(CheckpointError, match="is not of SGD"):
        optimizer.load_state_dict(build_optimizer(make_cfg(OPTIMIZER="AdamW"), model).state_dict())


@pytest.mark.parametrize(
    ("solver", "part"),
    [
        ({"OPTIMIZER": "Adam"}, "SOLVER.OPTIMIZER must be SGD or AdamW, received 'Adam'; did you mean 'AdamW'"),
        ({"NESTEROV": True, "MOMENTUM": 0.0}, "SOLVER.OPTIMIZER SGD does not take these settings: Nesterov"),
        (
            {"LAYER_DECAY": SimpleNamespace(RATE=0.5, LAYERS=["0", "3"])},
            "SOLVER.LAYER_DECAY (RATE 0.5, LAYERS ['0', '3']): the model has no module '3'",
        ),
        (
            {"LAYER_DECAY": SimpleNamespace(RATE=0.5, LAYERS=())},
            "SOLVER.LAYER_DECAY (RATE 0.5, LAYERS []): Sequential does not show its layers",
        ),
        (
            {"LAYER_DECAY": SimpleNamespace(RATE=1.5, LAYERS=())},
            "SOLVER.LAYER_DECAY (RATE 1.5, LAYERS []): decay must be above 0 and at most 1, received 1.5",
        ),
        ({"BASE_LR": -1.0}, "SOLVER.OPTIMIZER SGD does not take these settings: Invalid learning rate"),
    ],
)
def test_wrong_settings(solver: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_optimizer(make_cfg(**solver), make_model())
    assert part in str(error.value)


def test_a_model_without_trainable_parameters() -> None:
    with pytest.raises(ModelError, match="no trainable parameter"):
        build_optimizer(make_cfg(), make_model().requires_grad_(False))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_on_cuda_the_fused_kernels_are_used_and_states_move_between_devices(name: str) -> None:
    cfg = make_cfg(OPTIMIZER=name)
    model = make_model().cuda()
    optimizer = build_optimizer(cfg, model)
    assert all(group["fused"] for group in optimizer.param_groups)
    model(torch.randn(5, 3, device="cuda")).sum().backward()
    optimizer.step()
    on_cpu = make_model()
    cpu_optimizer = build_optimizer(cfg, on_cpu)
    cpu_optimizer.load_state_dict(optimizer.state_dict())
    train(on_cpu, cpu_optimizer, 1)
    optimizer.load_state_dict(cpu_optimizer.state_dict())
    optimizer.step()
