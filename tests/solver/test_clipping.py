"""Gradient clipping inside the optimizer's step."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW

from drivetrain.engine.defaults.config import get_cfg
from drivetrain.engine.precision import Float16
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.errors import ConfigError
from drivetrain.solver.build import build_optimizer
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


def by_torch(
    kind: str, parameters: list[torch.nn.Parameter], sizes: tuple[int, ...], limit: float, order: float
) -> None:
    """The same clipping by torch.nn.utils, on parameters that lie in groups of these sizes."""
    if kind == "value":
        torch.nn.utils.clip_grad_value_(parameters, limit)
    elif kind == "full_model":
        torch.nn.utils.clip_grad_norm_(parameters, limit, order)
    else:
        lengths = [1] * len(parameters) if kind == "norm" else sizes
        for some in torch.arange(len(parameters)).split(list(lengths)):
            torch.nn.utils.clip_grad_norm_([parameters[i] for i in some.tolist()], limit, order)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.5, math.inf])
@pytest.mark.parametrize("kind", ["value", "norm", "group", "full_model"])
def test_every_kind_is_what_torch_does(kind: str, order: float) -> None:
    for limit in (0.01, 1.0, 3.0, 1000.0):
        generator = torch.Generator().manual_seed(0)
        shapes = ((3, 4), (5,), (2, 2, 3), (1,), (7,))
        ours = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        theirs = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        optimizer = SGD([{"params": ours[:2]}, {"params": ours[2:3]}, {"params": ours[3:]}], lr=1.0)
        GradientClipper(kind, limit, order)(optimizer)
        by_torch(kind, theirs, (2, 1, 2), limit, order)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_each_group_has_its_own_joint_norm() -> None:
    """Groups of norms (5, 0.5) and 12 under a limit of 2: the second parameter shrinks with the first."""
    first, second, third, without = make_parameters()
    optimizer = SGD([{"params": [first, second]}, {"params": [third, without]}], lr=1.0)
    maybe_add_gradient_clipping(make_cfg("group", 2.0), optimizer).step()
    joint = math.hypot(5.0, 0.5)
    for parameter, grad, norm in zip((first, second, third), GRADS, (joint, joint, 12.0), strict=True):
        assert (-parameter.detach()).tolist() == scaled(grad, 2.0 / norm)
    assert without.tolist() == [0.0, 0.0]


def test_a_group_may_have_its_own_limit_or_none() -> None:
    first, second, third, _ = make_parameters()
    groups = [
        {"params": [first], "clip_value": 0.5},
        {"params": [second]},
        {"params": [third], "clip_value": None},
    ]
    optimizer = SGD(groups, lr=1.0)
    GradientClipper("group", 0.1)(optimizer)
    norms = [float(p.grad.norm()) for p in (first, second, third)]  # type: ignore[union-attr]
    assert norms == pytest.approx([0.5, 0.1, 12.0], rel=1e-4)
    optimizer.param_groups[1]["clip_value"] = -1.0
    with pytest.raises(ConfigError, match=r"'clip_value' must be above 0 or None, received -1\.0"):
        GradientClipper("group", 0.1)(optimizer)


def test_a_group_without_gradients_is_no_obstacle() -> None:
    first, second, third, without = make_parameters()
    GradientClipper("group", 1.0)(SGD([{"params": [without]}, {"params": [first, second, third]}], lr=1.0))
    assert without.grad is None and float(third.grad.norm()) < 1.0  # type: ignore[union-attr]


class TwoLayers(torch.nn.Module):
    """A model whose second layer has far larger gradients than its first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.second(self.first(batch)) * 10).square().mean()}

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(layer.parameters())} for layer in (self.first, self.second)]


def batches() -> Any:
    generator = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn(8, 4, generator=generator)


@pytest.mark.parametrize("as_argument", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["value", "norm", "group", "full_model"])
def test_with_accumulation_and_a_grad_scaler_it_clips_the_true_mean_gradient(
    kind: str, precision: str, as_argument: bool
) -> None:
    """Against a loop written out: the mean of two batches' gradients, clipped by torch.nn.utils, three steps."""
    limit = 0.2
    model = TwoLayers()
    optimizer = SGD(model.groups(), lr=0.05)
    clipper = GradientClipper(kind, limit)
    if not as_argument:
        maybe_add_gradient_clipping(make_cfg(kind, limit), optimizer)
    numerics = Float16("cpu", torch.amp.GradScaler("cpu", init_scale=256.0)) if precision == "fp16" else precision
    trainer = SimpleTrainer(
        model,
        batches(),
        optimizer,
        accumulate=2,
        precision=numerics,
        clip_gradients=clipper if as_argument else None,
    )
    trainer.train(0, 3)

    plain, data = TwoLayers(), batches()
    reference = SGD(plain.groups(), lr=0.05)
    for _ in range(3):
        reference.zero_grad()
        for _ in range(2):
            (plain(next(data))["loss"] / 2).backward()
        parameters = [p for group in reference.param_groups for p in group["params"]]
        norms = [float(p.grad.norm()) for p in parameters]
        assert max(norms) > 2 * limit  # there is something to clip
        by_torch(kind, parameters, (2, 2), limit, 2.0)
        reference.step()
    tolerance = 1e-6 if precision == "fp32" else 5e-4  # half precision has 11 bits; a step is at most 0.02
    start = TwoLayers()
    for one, other, before in zip(model.parameters(), plain.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
        assert not torch.allclose(one, before, rtol=0, atol=tolerance)


def test_the_config_key() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.CLIP_GRADIENTS.ENABLED=True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE=group"])
    cfg.merge_from_list(["SOLVER.CLIP_GRADIENTS.CLIP_VALUE=0.5", "SOLVER.WEIGHT_DECAY_BIAS=0.0", "SOLVER.BASE_LR=1.0"])
    model = TwoLayers()
    optimizer = build_optimizer(cfg, model)
    before = [[p.detach().clone() for p in group["params"]] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    model(next(batches()))["loss"].backward()
    optimizer.step()
    moved = [
        float(torch.cat([(p - b).flatten() for p, b in zip(group["params"], old, strict=True)]).detach().norm())
        for group, old in zip(optimizer.param_groups, before, strict=True)
    ]
    assert moved == pytest.approx([0.5, 0.5], rel=1e-3)  # weights and biases each


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


@pytest.mark.parametrize("kind", ["value", "norm", "group", "full_model"])
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
        (
            "valu",
            1.0,
            2.0,
            "CLIP_TYPE must be one of value, norm, group, full_model, received 'valu'; did you mean 'value'",
        ),
        ("norm", 0.0, 2.0, "must be above 0, received 0.0 and 2.0"),
        ("norm", 1.0, -1.0, "must be above 0, received 1.0 and -1.0"),
        ("norm", math.nan, 2.0, "must be above 0"),
    ],
)
def test_wrong_settings(kind: str, limit: float, norm_type: float, part: str) -> None:
    with pytest.raises(ConfigError) as error:
        GradientClipper(kind, limit, norm_type)
    assert part in str(error.value)
