"""Learning-rate schedulers on optimizers."""

from __future__ import annotations

import io
import logging
import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from drivetrain.errors import ConfigError
from drivetrain.solver.lr_scheduler import LRMultiplier, WarmupReduceLROnPlateau, build_lr_scheduler, build_schedule
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


def test_poly_with_its_warmup() -> None:
    poly = [(1 - i / 40) ** 0.9 for i in range(40)]
    keys = {"LR_SCHEDULER_NAME": "WarmupPolyLR", "POLY_LR_POWER": 0.9, "POLY_LR_CONSTANT_ENDING": 0.0}
    warmup = [0.5, 0.625, 0.75, 0.875] + [1.0] * 36
    rates = run(build_lr_scheduler(make_cfg(**keys), make_optimizer()), 40)
    assert rates == pytest.approx([0.2 * p * w for p, w in zip(poly, warmup, strict=True)])
    keys |= {"POLY_LR_CONSTANT_ENDING": 0.3, "WARMUP_METHOD": "constant"}
    rates = run(build_lr_scheduler(make_cfg(**keys), make_optimizer()), 40)
    assert rates == pytest.approx([0.1 * p for p in poly[:4]] + [0.2 * max(p, 0.3) for p in poly[4:]])
    rates = run(build_lr_scheduler(make_cfg(**keys, WARMUP_ITERS=0), make_optimizer()), 40)
    assert rates[0] == pytest.approx(0.2)


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


# -- every schedule in closed form ----------------------------------------------------------------------------------

NAMES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "OneCycleLR")
LENGTH, WARMUP, BASE, END, START = 60, 12, 0.2, 0.02, 0.25  # START is WARMUP_FACTOR


def closed_form(name: str, iteration: int, rescale: bool, method: str) -> float:
    """The learning rate of an iteration, from the schedules' definitions, in iterations instead of progress."""

    def cosine(start: float, end: float, place: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * place)) / 2

    def plain(place: Fraction) -> float:
        """Without the warm-up, at a place between 0 and 1."""
        if name == "WarmupMultiStepLR":
            return BASE * 0.5 ** sum(place >= Fraction(step, LENGTH) for step in (20, 40))
        if name == "WarmupStepWithFixedGammaLR":
            return BASE * 0.5 ** int(place * 4)
        return cosine(BASE, END, float(place))

    if name == "OneCycleLR":  # its own rise and fall; no warm-up
        rise = 18
        if iteration < rise:
            return cosine(BASE / 25, BASE, iteration / rise)
        return cosine(BASE, END, (iteration - rise) / (LENGTH - rise))
    if iteration >= WARMUP:
        return plain(Fraction(iteration - WARMUP, LENGTH - WARMUP) if rescale else Fraction(iteration, LENGTH))
    if method == "constant":
        return START * BASE
    reached = plain(Fraction(0) if rescale else Fraction(WARMUP, LENGTH))
    return START * BASE + (reached - START * BASE) * iteration / WARMUP


def scheduled(name: str, rescale: bool = False, method: str = "linear") -> Any:
    return make_cfg(
        LR_SCHEDULER_NAME=name,
        MAX_ITER=LENGTH,
        BASE_LR=BASE,
        BASE_LR_END=END,
        STEPS=(20, 40),
        GAMMA=0.5,
        WARMUP_ITERS=WARMUP,
        WARMUP_FACTOR=START,
        WARMUP_METHOD=method,
        RESCALE_INTERVAL=rescale,
    )


@pytest.mark.parametrize("method", ["linear", "constant"])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_iteration_has_the_rate_of_the_closed_form(name: str, rescale: bool, method: str) -> None:
    rates = run(build_lr_scheduler(scheduled(name, rescale, method), make_optimizer(BASE)), LENGTH)
    assert rates == pytest.approx([closed_form(name, i, rescale, method) for i in range(LENGTH)], rel=1e-12)


def test_the_closed_forms_differ() -> None:
    """Each setting changes the rates, so that the test above tells them apart."""
    curves = [[closed_form(name, i, rescale, "linear") for i in range(LENGTH)] for name in NAMES for rescale in (0, 1)]
    assert curves[-1] == curves[-2]  # OneCycleLR has no warm-up to make room for
    assert len({tuple(curve) for curve in curves}) == 7
    assert closed_form(NAMES[0], 5, False, "linear") != closed_form(NAMES[0], 5, False, "constant")


def resumed(cfg: Any, done: int, metrics: dict[int, float] | None = None) -> list[float]:
    """The rates of a run that is stopped after ``done`` iterations and continued from a file."""
    first, second = (build_lr_scheduler(cfg, make_optimizer(BASE, 2 * BASE)) for _ in range(2))
    rates = drive(first, range(done), metrics or {})
    file = io.BytesIO()
    torch.save([first.optimizer.state_dict(), first.state_dict()], file)
    file.seek(0)
    optimizer_state, state = torch.load(file, weights_only=True)
    second.optimizer.load_state_dict(optimizer_state)
    second.load_state_dict(state)
    return rates + drive(second, range(done, LENGTH), metrics or {})


def drive(scheduler: Any, iterations: range, metrics: dict[int, float]) -> list[float]:
    """The first group's rates; what an evaluation after an iteration gave is in ``metrics``."""
    rates = []
    for iteration in iterations:
        rates.append(float(scheduler.optimizer.param_groups[0]["lr"]))
        assert scheduler.optimizer.param_groups[1]["lr"] == 2 * rates[-1]
        if isinstance(scheduler, WarmupReduceLROnPlateau):
            scheduler.step_iteration()
            if iteration in metrics:
                scheduler.step(metrics[iteration])
        else:
            scheduler.step()
    return rates


@pytest.mark.parametrize("done", [0, 1, 11, 12, 13, 18, 20, 31, 59, 60])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_rate_after_a_resume_is_the_rate_without(name: str, rescale: bool, done: int) -> None:
    cfg = scheduled(name, rescale)
    whole = drive(build_lr_scheduler(cfg, make_optimizer(BASE, 2 * BASE)), range(LENGTH), {})
    assert resumed(cfg, done) == whole  # to the last bit


@pytest.mark.parametrize("done", [0, 1, 11, 12, 13, 24, 25, 34, 35, 36, 60])
def test_the_plateau_after_a_resume_is_the_plateau_without(done: int) -> None:
    """Warm-up of 12; results after iterations 4, 14, 24...: patience 1, so the second without progress lowers."""
    metrics = {4: 0.5, 14: 0.6, 24: 0.6, 34: 0.55, 44: 0.9, 54: 0.8}
    cfg = scheduled("ReduceLROnPlateau")
    whole = drive(build_lr_scheduler(cfg, make_optimizer(BASE, 2 * BASE)), range(LENGTH), metrics)
    assert whole[:12] == pytest.approx([BASE * (START + (1 - START) * i / 12) for i in range(12)])
    assert whole[12:35] == [BASE] * 23 and whole[35:] == pytest.approx([BASE / 2] * 25)
    assert resumed(cfg, done, metrics) == whole


@pytest.mark.parametrize("names", [("WarmupCosineLR", "ReduceLROnPlateau"), ("ReduceLROnPlateau", "WarmupCosineLR")])
def test_the_schedule_may_be_another_one_after_a_resume(names: tuple[str, str]) -> None:
    first, second, whole = (
        build_lr_scheduler(scheduled(name), make_optimizer(BASE, 2 * BASE)) for name in (*names, names[1])
    )
    drive(first, range(5), {2: 0.5})
    second.load_state_dict(first.state_dict())
    assert drive(second, range(5, 12), {}) == drive(whole, range(12), {})[5:]


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
