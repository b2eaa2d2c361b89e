from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from drivetrain.errors import CheckpointError
from drivetrain.solver.optimizer_state import check_optimizer_state

Make = Callable[[Sequence[nn.Parameter]], Optimizer]


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.full(shape, 1.0)) for shape in ((2, 3), (3,), (3, 3))]


def sgd(params: Any) -> Optimizer:
    return SGD(params, lr=0.1, momentum=0.9)


def plain_sgd(params: Any) -> Optimizer:
    return SGD(params, lr=0.1)


def adamw(params: Any) -> Optimizer:
    return AdamW(params, lr=0.1)


def state_after_a_step(make: Make, params: list[nn.Parameter]) -> dict[str, Any]:
    optimizer = make(params)
    for parameter in params:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("make", [sgd, adamw, RMSprop, plain_sgd])
def test_its_own_state_passes_and_so_does_one_without_steps(make: Make) -> None:
    check_optimizer_state(make(parameters()), state_after_a_step(make, parameters()))
    check_optimizer_state(make(parameters()), make(parameters()).state_dict())


@pytest.mark.parametrize(
    ("saved", "own"), [(Adam, adamw), (sgd, lambda p: SGD(p, lr=1)), (lambda p: SGD(p, lr=1), sgd)]
)
def test_a_state_that_serves_passes(saved: Make, own: Make) -> None:
    state = state_after_a_step(saved, parameters())
    optimizer = own(params := parameters())
    check_optimizer_state(optimizer, state)
    optimizer.load_state_dict(state)
    for parameter in params:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def test_settings_of_other_versions_and_of_ones_own_may_differ() -> None:
    state = state_after_a_step(sgd, parameters())
    for name in ("foreach", "fused", "maximize", "differentiable", "nesterov"):  # not there in older versions
        del state["param_groups"][0][name]
    state["param_groups"][0]["initial_lr"] = 0.1
    check_optimizer_state(sgd(parameters()), state)


@pytest.mark.parametrize(
    ("saved", "own", "name", "lacks"),
    [(adamw, sgd, "SGD", "momentum"), (sgd, adamw, "AdamW", "betas"), (RMSprop, adamw, "AdamW", "betas")],
)
def test_another_kind_is_refused(saved: Make, own: Make, name: str, lacks: str) -> None:
    with pytest.raises(CheckpointError, match=f"is not of {name}, since it has no '{lacks}': resume with"):
        check_optimizer_state(own(parameters()), state_after_a_step(saved, parameters()))


def test_other_numbers_of_parameters_are_refused() -> None:
    state = state_after_a_step(sgd, parameters())
    one, *others = parameters()
    with pytest.raises(CheckpointError, match="groups of 3 parameters, and this optimizer has groups of 2: "):
        check_optimizer_state(sgd(others), state)
    with pytest.raises(CheckpointError, match="this optimizer has groups of 1, 2: "):
        check_optimizer_state(sgd([{"params": [one]}, {"params": others}]), state)
    many = [{"params": [parameter]} for _ in range(4) for parameter in parameters()]
    with pytest.raises(CheckpointError, match="groups of 1, 1, 1, 1, 1, 1, 1, 1 and 4 more: "):
        check_optimizer_state(sgd(many), state)


@pytest.mark.parametrize("make", [sgd, adamw])
def test_other_parameters_in_equal_numbers_are_refused_also_in_a_later_group(make: Make) -> None:
    one, two, three = parameters()
    groups = [{"params": [one]}, {"params": [two, three]}]
    state = state_after_a_step(lambda _: make(groups), [one, two, three])  # type: ignore[arg-type]
    check_optimizer_state(make(copy.deepcopy(groups)), state)  # type: ignore[arg-type]
    other = [{"params": [one]}, {"params": [three, two]}]
    with pytest.raises(CheckpointError, match=r"number 1 has shape \[3\] there and \[3, 3\] here"):
        check_optimizer_state(make(other), state)  # type: ignore[arg-type]


def test_an_optimizer_that_loads_in_its_own_way_judges_by_itself() -> None:
    class Own(SGD):
        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.given = state_dict

    check_optimizer_state(Own(parameters(), lr=0.1), {"anything": 1})
