"""Learning-rate schedulers on optimizers."""

from __future__ import annotations

import io
import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from drivetrain.errors import ConfigError
from drivetrain.solver.lr_scheduler import (
    LRMultiplier,
    WarmupReduceLROnPlateau,
    build_lr_scheduler,
    build_schedule,
)
from drivetrain.solver.schedules import Cosine, Linear


def make_cfg(**solver: Any) -> Any:
    keys: dict[str, Any] = {
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "MAX_ITER": 40,
        "BASE_LR": 0.2,
        "BASE_LR_END": 0.0,
        "STEPS": (20, 30),
        "GAMMA": 0.1,
        "NUM_DECAYS": 3,
        "RESCALE_INTERVAL": False,
        "WARMUP_FACTOR": 0.5,
        "WARMUP_ITERS": 4,
        "WARMUP_METHOD": "linear",
        "PLATEAU": SimpleNamespace(MODE="max", PATIENCE=1),
    }
    return SimpleNamespace(SOLVER=SimpleNamespace(**{**keys, **solver}))


def make_optimizer(*rates: float) -> SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates or (0.2,)]
    return SGD(groups, lr=1.0)


def run(scheduler: LRScheduler, iterations: int) -> list[float]:
    """The rate of the first group at each iteration."""
    rates = []
    for _ in range(iterations):
        rates.append(float(scheduler.optimizer.param_groups[0]["lr"]))
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_multistep_with_warmup() -> None:
    rates = run(build_lr_scheduler(make_cfg(), make_optimizer()), 40)
    assert rates[:4] == pytest.approx([0.2 * (0.5 + 0.5 * i / 4) for i in range(4)])
    assert rates[4:] == pytest.approx([0.2] * 16 + [0.02] * 10 + [0.002] * 10)


def test_cosine_with_warmup_and_end() -> None:
    cfg = make_cfg(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR_END=0.05)
    rates = run(build_lr_scheduler(cfg, make_optimizer()), 40)
    for i in range(4, 40):
        assert rates[i] == pytest.approx(0.05 + 0.15 * (1 + math.cos(math.pi * i / 40)) / 2)
    assert rates[0] == pytest.approx(0.1)


def test_fixed_gamma() -> None:
    cfg = make_cfg(LR_SCHEDULER_NAME="WarmupStepWithFixedGammaLR", GAMMA=0.5, WARMUP_ITERS=0)
    rates = run(build_lr_scheduler(cfg, make_optimizer()), 40)
    assert rates == pytest.approx([0.2 * 0.5 ** (i // 10) for i in range(40)])


def test_one_cycle() -> None:
    cfg = make_cfg(LR_SCHEDULER_NAME="OneCycleLR", BASE_LR_END=0.002)
    rates = run(build_lr_scheduler(cfg, make_optimizer()), 40)
    assert rates[0] == pytest.approx(0.2 / 25)
    assert rates[12] == pytest.approx(0.2)
    assert rates[26] == pytest.approx((0.2 + 0.002) / 2)


def test_rescaled_interval() -> None:
    cfg = make_cfg(LR_SCHEDULER_NAME="WarmupCosineLR", RESCALE_INTERVAL=True, WARMUP_ITERS=20)
    rates = run(build_lr_scheduler(cfg, make_optimizer()), 40)
    assert rates[20] == pytest.approx(0.2)
    assert rates[30] == pytest.approx(0.1)


@pytest.mark.parametrize("steps", [[], (), [50], (41, 80)])
def test_steps_that_never_come(steps: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rates = run(build_lr_scheduler(make_cfg(STEPS=steps, WARMUP_ITERS=0), make_optimizer()), 40)
    assert rates == [0.2] * 40
    late = ", ".join(map(str, steps))
    expected = [f"SOLVER.STEPS after SOLVER.MAX_ITER (40) have no effect: {late}"] if steps else []
    assert [record.getMessage() for record in caplog.records] == expected


def test_a_single_step_may_be_an_int_and_a_length_may_be_text() -> None:
    cfg = make_cfg(STEPS=20, MAX_ITER="40", WARMUP_ITERS="0")
    assert run(build_lr_scheduler(cfg, make_optimizer()), 21)[19:] == pytest.approx([0.2, 0.02])


def test_a_warmup_longer_than_the_training_is_cut() -> None:
    rates = run(build_lr_scheduler(make_cfg(WARMUP_ITERS=400, WARMUP_FACTOR=0.0, STEPS=()), make_optimizer()), 40)
    assert rates == pytest.approx([0.2 * i / 40 for i in range(40)])


def test_every_group_keeps_its_own_base_rate() -> None:
    optimizer = make_optimizer(1.0, 10.0)
    scheduler = LRMultiplier(optimizer, Linear(1.0, 0.0), 4)
    assert isinstance(scheduler, LRScheduler)
    for i in range(4):
        assert [group["lr"] for group in optimizer.param_groups] == [1 - i / 4, 10 - 10 * i / 4]
        assert scheduler.get_last_lr() == [1 - i / 4, 10 - 10 * i / 4]
        scheduler.step()


def test_beyond_the_end_the_last_value_stays() -> None:
    optimizer = make_optimizer(1.0)
    scheduler = LRMultiplier(optimizer, Cosine(1.0, 0.25), 2)
    for _ in range(5):
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)


def test_tensor_rates_are_changed_in_place() -> None:
    rate = torch.tensor(1.0)
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = LRMultiplier(optimizer, Linear(1.0, 0.0), 4)
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.75


def test_the_state_is_the_iteration_and_loads_without_pickle() -> None:
    cfg = make_cfg(LR_SCHEDULER_NAME="WarmupCosineLR")
    whole = run(build_lr_scheduler(cfg, make_optimizer()), 40)
    optimizer = make_optimizer()
    first = build_lr_scheduler(cfg, optimizer)
    run(first, 17)
    assert first.state_dict() == {"last_epoch": 17}
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": first.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    resumed_optimizer = make_optimizer()
    resumed = build_lr_scheduler(cfg, resumed_optimizer)
    resumed_optimizer.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["scheduler"])
    assert run(resumed, 23) == whole[17:]


def test_a_resumed_run_follows_a_changed_schedule() -> None:
    optimizer = make_optimizer(1.0)
    scheduler = LRMultiplier(optimizer, Linear(1.0, 0.0), 8)
    scheduler.load_state_dict({"last_epoch": 2, "base_lrs": [5.0]})
    assert optimizer.param_groups[0]["lr"] == 0.75


@pytest.mark.parametrize(
    ("solver", "part"),
    [
        ({"LR_SCHEDULER_NAME": "WarmupCosine"}, "received 'WarmupCosine'; did you mean 'WarmupCosineLR'"),
        ({"STEPS": (30, 20)}, "SOLVER.STEPS must be increasing iterations, received (30, 20)"),
        (
            {"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 0.3},
            "SOLVER.BASE_LR_END must be between 0 and SOLVER.BASE_LR (0.2), received 0.3",
        ),
        ({"MAX_ITER": 0}, "SOLVER.MAX_ITER must be at least 1, received 0"),
        ({"MAX_ITER": "12ep"}, "SOLVER.MAX_ITER is '12ep', which becomes iterations only where"),
        ({"WARMUP_ITERS": "1ep"}, "SOLVER.WARMUP_ITERS is '1ep'"),
        ({"LR_SCHEDULER_NAME": "ReduceLROnPlateau", "GAMMA": 1.0}, "SOLVER.GAMMA must be between 0 and 1"),
    ],
)
def test_wrong_settings_say_what_is_wrong(solver: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_lr_scheduler(make_cfg(**solver), make_optimizer())
    assert part in str(error.value)


def test_other_wrong_uses() -> None:
    with pytest.raises(ConfigError, match="at least 1 iteration, received max_iter=0"):
        LRMultiplier(make_optimizer(), Cosine(), 0)
    with pytest.raises(ConfigError, match=r"SOLVER\.LR_SCHEDULER_NAME must be one of"):
        build_schedule(make_cfg(LR_SCHEDULER_NAME="ReduceLROnPlateau"))


def test_a_zero_base_rate_is_allowed() -> None:
    cfg = make_cfg(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR=0.0)
    assert run(build_lr_scheduler(cfg, make_optimizer(0.0)), 40) == [0.0] * 40


# -- plateau ------------------------------------------------------------------------------------------------------


def make_plateau(**solver: Any) -> WarmupReduceLROnPlateau:
    cfg = make_cfg(LR_SCHEDULER_NAME="ReduceLROnPlateau", **solver)
    scheduler = build_lr_scheduler(cfg, make_optimizer(0.2, 2.0))
    assert isinstance(scheduler, WarmupReduceLROnPlateau) and isinstance(scheduler, ReduceLROnPlateau)
    return scheduler


def lrs(scheduler: LRScheduler) -> list[float]:
    return [group["lr"] for group in scheduler.optimizer.param_groups]


def test_plateau_warms_up_then_falls_without_progress() -> None:
    scheduler = make_plateau()
    for i in range(4):
        factor = 0.5 + 0.5 * i / 4
        assert lrs(scheduler) == pytest.approx([0.2 * factor, 2.0 * factor])
        scheduler.step_iteration()
    for metric in (1.0, 2.0, 1.5):  # one without progress: within the patience
        scheduler.step_iteration()
        scheduler.step(metric)
        assert lrs(scheduler) == pytest.approx([0.2, 2.0])
    scheduler.step(1.9)
    scheduler.step_iteration()
    assert lrs(scheduler) == pytest.approx([0.02, 0.2])
    assert scheduler.get_last_lr() == lrs(scheduler)


def test_results_during_the_warmup_set_the_mark_but_lower_nothing() -> None:
    scheduler = make_plateau(PLATEAU=SimpleNamespace(MODE="min", PATIENCE=0))
    for metric in (3.0, 4.0, 5.0):
        before = lrs(scheduler)
        scheduler.step(metric)
        assert lrs(scheduler) == before
        scheduler.step_iteration()
    scheduler.step_iteration()
    assert lrs(scheduler) == pytest.approx([0.2, 2.0])
    scheduler.step(3.5)  # worse than 3.0
    assert lrs(scheduler) == pytest.approx([0.02, 0.2])


def test_plateau_resumes_in_and_after_the_warmup() -> None:
    for done in (2, 6):
        first = make_plateau()
        for _ in range(done):
            first.step_iteration()
        for metric in (2.0, 1.0, 1.0):
            first.step(metric)
        second = make_plateau()
        file = io.BytesIO()
        torch.save([first.optimizer.state_dict(), first.state_dict()], file)
        file.seek(0)
        optimizer_state, state = torch.load(file, weights_only=True)
        second.optimizer.load_state_dict(optimizer_state)
        second.load_state_dict(state)
        assert second.get_last_lr() == lrs(second) == lrs(first)
        for scheduler in (first, second):
            for metric in (1.0, 1.0, 1.0):
                scheduler.step_iteration()
                scheduler.step(metric)
        assert lrs(second) == lrs(first)
        assert second.state_dict() == first.state_dict()


def test_no_warmup() -> None:
    assert lrs(make_plateau(WARMUP_ITERS=0)) == [0.2, 2.0]
