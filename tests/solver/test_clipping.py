"""Gradient clipping inside the optimizer's step."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW

from drivetrain.errors import ConfigError
from drivetrain.solver.clipping import GradientClipper, maybe_add_gradient_clipping

GRADS = ([3.0, 4.0], [-0.3, 0.4], [12.0])


def make_cfg(kind: str = "value", limit: float = 1.0, norm_type: float = 2.0, enabled: bool = True) -> Any:
    clip = SimpleNamespace(ENABLED=enabled, CLIP_TYPE=kind, CLIP_VALUE=limit, NORM_TYPE=norm_type)
    return SimpleNamespace(SOLVER=SimpleNamespace(CLIP_GRADIENTS=clip))


def make_parameters() -> list[torch.nn.Parameter]:
    parameters = [torch.nn.Parameter(torch.zeros(len(grad))) for grad in GRADS]
    for parameter, grad in zip(parameters, GRADS, strict=True):
        parameter.grad = torch.tensor(grad)
    return [*parameters, torch.nn.Parameter(torch.zeros(2))]  # the last has no gradient


def stepped(cfg: Any, wrap_class: bool = False) -> list[list[float]]:
    """What each parameter moves by, negated, under plain SGD with rate 1: the gradient that was used."""
    parameters = make_parameters()
    if wrap_class:
        optimizer = maybe_add_gradient_clipping(cfg, SGD)([{"params": parameters}], lr=1.0)
    else:
        optimizer = maybe_add_gradient_clipping(cfg, SGD([{"params": parameters}], lr=1.0))
    optimizer.step()
    return [(-p.detach()).tolist() for p in parameters[:3]]


def scaled(grad: list[float], factor: float) -> list[float]:
    return [pytest.approx(g * min(1.0, factor), rel=1e-4) for g in grad]


@pytest.mark.parametrize("wrap_class", [False, True])
def test_by_value(wrap_class: bool) -> None:
    moved = stepped(make_cfg("value", 1.0), wrap_class)
    assert moved == [[1.0, 1.0], [pytest.approx(-0.3), pytest.approx(0.4)], [1.0]]


@pytest.mark.parametrize("wrap_class", [False, True])
@pytest.mark.parametrize(
    ("norm_type", "norms"), [(2.0, (5.0, 0.5, 12.0)), (1.0, (7.0, 0.7, 12.0)), (math.inf, (4.0, 0.4, 12.0))]
)
def test_by_the_norm_of_each_parameter(norm_type: float, norms: tuple[float, ...], wrap_class: bool) -> None:
    moved = stepped(make_cfg("norm", 2.0, norm_type), wrap_class)
    assert moved == [scaled(grad, 2.0 / norm) for grad, norm in zip(GRADS, norms, strict=True)]


def test_by_the_norm_of_the_whole_model() -> None:
    norm = math.sqrt(sum(g * g for grad in GRADS for g in grad))
    assert stepped(make_cfg("full_model", 1.5)) == [scaled(grad, 1.5 / norm) for grad in GRADS]
    assert stepped(make_cfg("full_model", 100.0)) == [scaled(grad, 1.0) for grad in GRADS]


def test_switched_off_nothing_is_added() -> None:
    optimizer = SGD(make_parameters(), lr=1.0)
    assert maybe_add_gradient_clipping(make_cfg(enabled=False), optimizer) is optimizer
    assert maybe_add_gradient_clipping(make_cfg(enabled=False), SGD) is SGD
    assert not optimizer._optimizer_step_pre_hooks
    assert stepped(make_cfg(enabled=False)) == [list(map(pytest.approx, grad)) for grad in GRADS]


def test_the_optimizer_stays_what_it_is_and_its_state_is_interchangeable() -> None:
    plain, clipped = AdamW(make_parameters(), lr=0.1), AdamW(make_parameters(), lr=0.1)
    assert maybe_add_gradient_clipping(make_cfg(), clipped) is clipped
    assert type(clipped) is AdamW
    of_class = maybe_add_gradient_clipping(make_cfg(), AdamW)
    assert issubclass(of_class, AdamW) and of_class.__name__ == "AdamWWithGradientClip"
    third = of_class(make_parameters(), lr=0.1)
    plain.step()
    for optimizer in (clipped, third):
        optimizer.load_state_dict(plain.state_dict())
        assert optimizer.state_dict().keys() == plain.state_dict().keys()
        optimizer.step()


def test_no_gradients_no_work() -> None:
    optimizer = maybe_add_gradient_clipping(make_cfg("full_model"), SGD([torch.nn.Parameter(torch.zeros(2))], lr=1.0))
    optimizer.step()


@pytest.mark.parametrize("kind", ["value", "norm", "full_model"])
def test_a_fused_optimizer_under_a_grad_scaler_clips_true_gradients(kind: str) -> None:
    """Fused optimizers undo the scale inside their kernel, so the hook sees scaled gradients."""
    expected = stepped(make_cfg(kind, 1.5))
    parameters = make_parameters()
    optimizer = maybe_add_gradient_clipping(make_cfg(kind, 1.5), SGD(parameters, lr=1.0, fused=True))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for parameter, grad in zip(parameters, GRADS, strict=False):
        parameter.grad = None
        scaler.scale((parameter * torch.tensor(grad)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert [(-p.detach()).tolist() for p in parameters[:3]] == [
        [pytest.approx(g, rel=1e-4) for g in row] for row in expected
    ]


@pytest.mark.parametrize(
    ("kind", "limit", "norm_type", "part"),
    [
        ("valu", 1.0, 2.0, "CLIP_TYPE must be one of value, norm, full_model, received 'valu'; did you mean 'value'"),
        ("norm", 0.0, 2.0, "must be above 0, received 0.0 and 2.0"),
        ("norm", 1.0, -1.0, "must be above 0, received 1.0 and -1.0"),
        ("norm", math.nan, 2.0, "must be above 0"),
    ],
)
def test_wrong_settings(kind: str, limit: float, norm_type: float, part: str) -> None:
    with pytest.raises(ConfigError) as error:
        GradientClipper(kind, limit, norm_type)
    assert part in str(error.value)
