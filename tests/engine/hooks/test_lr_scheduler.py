from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from drivetrain.engine.hooks import EvalHook, HookBase, LRScheduler
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import TrainingError
from drivetrain.solver import LRMultiplier, WarmupReduceLROnPlateau


class Loop(TrainerBase):
    def run_step(self) -> None:
        self.used.append([g["lr"] for g in self.optimizer.param_groups])  # type: ignore[attr-defined]
        self.optimizer.step()  # type: ignore[attr-defined]


def loop(*rates: float, sizes: tuple[int, ...] = ()) -> tuple[Any, torch.optim.Optimizer]:
    sizes = sizes or (1,) * len(rates)
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1)) for _ in range(n)], "lr": r}
        for r, n in zip(rates, sizes, strict=True)
    ]
    trainer = Loop()
    trainer.optimizer = torch.optim.SGD(groups, lr=1.0)  # type: ignore[attr-defined]
    trainer.used = []  # type: ignore[attr-defined]
    return trainer, trainer.optimizer  # type: ignore[attr-defined]


def rates_of(trainer: Any) -> list[float]:
    return [value for value, _ in trainer.storage.history("lr").values()]


def test_the_rate_of_each_step_is_put_before_the_schedule_is_stepped() -> None:
    trainer, optimizer = loop(1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3], gamma=0.5)
    trainer.register_hooks([LRScheduler(optimizer, scheduler)])
    trainer.train(0, 4)
    assert rates_of(trainer) == [1.0, 1.0, 0.5, 0.25] == [used[0] for used in trainer.used]
    assert trainer.storage.smoothing_hints()["lr"] is False


def test_without_arguments_it_takes_the_trainers() -> None:
    trainer, optimizer = loop(1.0)
    trainer.scheduler = LRMultiplier(optimizer, lambda p: 1.0 - p, max_iter=4)
    hook = LRScheduler()
    trainer.register_hooks([hook])
    trainer.train(0, 4)
    assert rates_of(trainer) == [1.0, 0.75, 0.5, 0.25]
    assert hook.scheduler is trainer.scheduler


@pytest.mark.parametrize(
    ("rates", "sizes", "group"),
    [((1.0, 2.0, 3.0), (1, 3, 2), 1), ((1.0, 2.0, 2.0), (1, 1, 1), 1), ((5.0,), (1,), 0)],
)
def test_which_group_is_shown(rates: tuple[float, ...], sizes: tuple[int, ...], group: int) -> None:
    trainer, optimizer = loop(*rates, sizes=sizes)
    assert LRScheduler.get_best_param_group_id(optimizer) == group
    trainer.register_hooks([LRScheduler(scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0))])
    trainer.train(0, 1)
    assert rates_of(trainer) == [rates[group]]


def test_a_resumed_schedule_goes_on_as_if_it_had_not_stopped() -> None:
    def build() -> Any:
        trainer, optimizer = loop(1.0)
        trainer.register_hooks([LRScheduler(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5))])
        return trainer

    whole = build()
    whole.train(0, 7)
    first = build()
    first.train(0, 3)
    second = build()
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    second.train(3, 7)
    assert rates_of(first) + rates_of(second) == rates_of(whole)
    third = build()  # the negative control: without the hook's state it does not
    third.optimizer.load_state_dict(first.optimizer.state_dict())
    third.train(3, 7)
    assert rates_of(third) != rates_of(whole)[3:]


def test_a_function_of_progress_needs_no_state() -> None:
    def cosine(progress: float) -> float:
        assert 0 <= progress < 1
        return 0.5 * (1 + math.cos(math.pi * progress))

    trainer, optimizer = loop(2.0, 4.0, sizes=(2, 1))
    trainer.register_hooks([LRScheduler(scheduler=cosine)])
    trainer.train(0, 8)
    expected = [2.0 * cosine(i / 8) for i in range(8)]
    assert rates_of(trainer) == pytest.approx(expected)
    assert [used[1] for used in trainer.used] == pytest.approx([2 * e for e in expected])
    resumed, other = loop(2.0, 4.0, sizes=(2, 1))
    resumed.register_hooks([LRScheduler(scheduler=cosine)])
    other.load_state_dict(optimizer.state_dict())  # its rates are those of the end; its base rates are in it
    resumed.train(5, 8)
    assert rates_of(resumed) == pytest.approx(expected[5:])


def plateau(optimizer: torch.optim.Optimizer, **options: Any) -> Any:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, **options)


def test_a_plateau_is_fed_by_evaluations_alone() -> None:
    trainer, optimizer = loop(1.0)
    left = iter([10.0, 9.0, 20.0, 1.0])
    evaluation = EvalHook(2, lambda: {"segm": {"AP": 0.0}, "bbox": {"AP": next(left)}})
    trainer.register_hooks([LRScheduler(optimizer, plateau(optimizer, mode="max")), evaluation])
    trainer.train(0, 8)
    assert rates_of(trainer) == [1.0] * 4 + [0.5] * 4  # the fourth evaluation comes after the last step
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_a_plateau_of_a_named_metric_and_with_warm_up() -> None:
    trainer, optimizer = loop(1.0)
    scheduler = WarmupReduceLROnPlateau(optimizer, lambda p: 0.25 + 0.75 * p, 3, mode="min", factor=0.5, patience=0)
    left = iter([3.0, 2.0, 2.0, 2.0])
    hooks = [LRScheduler(optimizer, scheduler, metric="loss/mean"), EvalHook(2, lambda: {"loss": {"mean": next(left)}})]
    trainer.register_hooks(hooks)
    trainer.train(0, 8)
    assert rates_of(trainer) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_a_plateau_resumes() -> None:
    def build(values: list[float]) -> Any:
        trainer, optimizer = loop(1.0)
        left = iter(values)
        evaluation = EvalHook(1, lambda: {"bbox": {"AP": next(left)}})
        trainer.register_hooks([LRScheduler(optimizer, plateau(optimizer, mode="max")), evaluation])
        return trainer

    first = build([10.0, 11.0])
    first.train(0, 2)
    second = build([5.0, 6.0, 12.0])
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    second.train(2, 5)
    assert rates_of(second) == [1.0, 0.5, 0.25]


def test_the_default_metric_follows_the_mode(caplog: pytest.LogCaptureFixture) -> None:
    trainer, optimizer = loop(1.0)
    trainer.register_hooks([LRScheduler(optimizer, plateau(optimizer, mode="min")), EvalHook(1, lambda: {"AP": 1.0})])
    trainer.train(0, 3)
    assert "no metric 'validation_loss'" in caplog.text  # AP must not be taken for something to make small
    assert optimizer.param_groups[0]["lr"] == 1.0
    trainer, optimizer = loop(1.0)
    trainer.register_hooks([LRScheduler(optimizer, plateau(optimizer, mode="max")), EvalHook(1, lambda: {"x": 1.0})])
    with pytest.raises(TrainingError, match=r"which of the results to watch \(x\)"):
        trainer.train(0, 3)


def test_other_schedules_do_not_wait_for_evaluations() -> None:
    trainer, optimizer = loop(1.0)
    trainer.register_hooks([LRScheduler(scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer))])
    trainer.train(0, 1)
    assert trainer._hooks.after_evaluation == []
    trainer, optimizer = loop(1.0)
    trainer.register_hooks([LRScheduler(scheduler=plateau(optimizer))])
    trainer.train(0, 1)
    assert len(trainer._hooks.after_evaluation) == 1


def test_what_is_no_schedule_is_refused() -> None:
    trainer, _ = loop(1.0)
    trainer.register_hooks([LRScheduler(scheduler="cosine")])
    with pytest.raises(TrainingError, match=r"'cosine' is no learning rate schedule"):
        trainer.train(0, 1)
    assert isinstance(LRScheduler(), HookBase)
