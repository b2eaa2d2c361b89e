"""Schedules by fvcore's names."""

from __future__ import annotations

import math

import pytest
import torch

from drivetrain.compat.param_scheduler import (
    ConstantParamScheduler,
    CosineParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
    WarmupParamScheduler,
)
from drivetrain.errors import ConfigError
from drivetrain.solver import LRMultiplier


def test_values_over_the_progress() -> None:
    assert ConstantParamScheduler(0.3)(0.9) == 0.3
    assert LinearParamScheduler(start_value=1.0, end_value=0.0)(0.25) == 0.75
    assert CosineParamScheduler(1.0, 0.0)(1 / 3) == pytest.approx(0.5 * (1 + math.cos(math.pi / 3)))
    assert ExponentialParamScheduler(2.0, 0.25)(0.5) == pytest.approx(1.0)
    assert PolynomialDecayParamScheduler(1.0, 2.0)(0.5) == 0.25
    with pytest.raises(NotImplementedError):
        ParamScheduler()(0.5)


def test_steps() -> None:
    steps = MultiStepParamScheduler([1.0, 0.1, 0.01], num_updates=90, milestones=[60, 80])
    assert [steps(i / 90) for i in (0, 59, 60, 79, 80, 89)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    assert [MultiStepParamScheduler([2, 1], milestones=[3, 4])(i / 4) for i in range(4)] == [2, 2, 2, 1]
    assert [MultiStepParamScheduler([4, 2])(i / 4) for i in range(4)] == [4, 4, 2, 2]
    with pytest.raises(ConfigError, match="2 values need 1 rising milestones"):
        MultiStepParamScheduler([1, 2], 10, [3, 6])


def test_warm_up_drives_an_optimizer() -> None:
    schedule = WarmupParamScheduler(MultiStepParamScheduler([1, 0.1], 10, [5]), 0.5, 0.2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = LRMultiplier(optimizer, schedule, max_iter=10)
    rates = []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1.0, 1.5, 2.0, 2.0, 2.0, 0.2, 0.2])
    with pytest.raises(ConfigError, match="'linear' or 'constant', received 'fast'"):
        WarmupParamScheduler(schedule, 0.5, 0.2, "fast")
