from __future__ import annotations

import logging

import pytest

from drivetrain.engine.hooks import CallbackHook
from drivetrain.engine.hooks.schedule import PeriodicHook, finished, last_iteration
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import TrainingError
from drivetrain.events import EventStorage


class Loop(TrainerBase):
    def run_step(self) -> None:
        pass


class Acts(PeriodicHook):
    def __init__(self, period: int) -> None:
        super().__init__(period)
        self.at: list[int] = []

    def act(self, iteration: int) -> None:
        self.at.append(iteration)


def run(hook: Acts, max_iter: int, start: int = 0, then: object = None) -> None:
    trainer = Loop()
    trainer.register_hooks([hook, CallbackHook(after_step=then)] if then else [hook])  # type: ignore[arg-type]
    trainer.train(start, max_iter)


@pytest.mark.parametrize(
    ("period", "max_iter", "expected"),
    [(3, 8, [2, 5, 7]), (4, 8, [3, 7]), (0, 5, [4]), (10, 4, [3]), (1, 3, [0, 1, 2])],
)
def test_each_period_and_once_after_the_last(period: int, max_iter: int, expected: list[int]) -> None:
    hook = Acts(period)
    run(hook, max_iter)
    assert hook.at == expected


def test_a_stop_that_comes_later_in_the_last_iteration_is_made_up_for() -> None:
    hook = Acts(100)
    run(hook, 50, then=lambda t: t.request_stop("test") if t.iter == 6 else None)
    assert hook.at == [6]
    hook = Acts(7)
    run(hook, 50, then=lambda t: t.request_stop("test") if t.iter == 6 else None)
    assert hook.at == [6]  # not twice


def test_never_after_a_failure_and_not_without_an_iteration() -> None:
    def fail(t: TrainerBase) -> None:
        if t.iter == 2:
            raise ValueError

    hook = Acts(0)
    with pytest.raises(ValueError):
        run(hook, 9, then=fail)
    assert hook.at == []
    run(hook, 5, start=5)
    assert hook.at == []


def resumed(period: int, acted: int | None, start: int, max_iter: int) -> tuple[list[int], list[int]]:
    """Iterations of the calls after a resume, and the trainer's iteration at each."""
    hook, trainer = Acts(period), Loop()
    seen: list[int] = []
    hook.act = lambda iteration: (hook.at.append(iteration), seen.append(trainer.iter))  # type: ignore[method-assign,assignment,return-value]
    trainer.register_hooks([hook])
    trainer.load_state_dict({"iteration": start - 1, "hooks": {"Acts": {"acted": acted}}})
    trainer.train(start, max_iter)
    return hook.at, seen


def test_a_resumed_training_makes_up_for_a_call_that_was_cut_short(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert resumed(2, 1, 4, 7) == ([3, 5, 6], [3, 5, 6])
    assert "Acts makes up for iteration 3: the checkpoint was written before it was through" in caplog.text
    assert resumed(2, 3, 4, 7)[0] == [5, 6]  # it was through
    assert resumed(2, 1, 3, 7)[0] == [3, 5, 6]  # none was due
    assert resumed(1, None, 0, 2)[0] == [0, 1]  # before the first iteration nothing is
    assert resumed(0, None, 7, 7) == ([6], [6])  # that of the last iteration, and once
    assert resumed(0, 6, 7, 7)[0] == []


def test_a_call_counts_when_it_is_through() -> None:
    class Fails(Acts):
        def act(self, iteration: int) -> None:
            super().act(iteration)
            if len(self.at) == 2:
                raise ValueError

    hook = Fails(2)
    with pytest.raises(ValueError):
        run(hook, 9)
    assert hook.at == [1, 3] and hook.state_dict() == {"acted": 1}


def test_without_a_checkpoint_an_earlier_training_is_forgotten() -> None:
    hook, trainer = Acts(2), Loop()
    trainer.register_hooks([hook])
    for _ in range(2):
        trainer.train(0, 3)
    trainer.train(4, 5)
    assert hook.at == [1, 2, 1, 2, 4]


class CopiedLoop(Loop):
    """The loop as code in the wild copies it; ``iter`` ends one lower than with the trainer's own."""

    def train(self, start_iter: int, max_iter: int) -> None:
        self.start_iter, self.max_iter = start_iter, max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
            finally:
                self.after_train()


@pytest.mark.parametrize("kind", [Loop, CopiedLoop])
def test_the_end_and_the_last_iteration(kind: type[Loop]) -> None:
    steps: list[int] = []
    ends: list[tuple[bool, int]] = []
    trainer = kind()
    trainer.register_hooks(
        [
            CallbackHook(
                after_step=lambda t: steps.append(last_iteration(t)),
                after_train=lambda t: ends.append((finished(t), last_iteration(t))),
            )
        ]
    )
    trainer.train(0, 2)
    assert (steps, ends) == ([0, 1], [(True, 1)])

    def fail(t: TrainerBase) -> None:
        if t.iter == 1:
            raise ValueError

    for hook in (CallbackHook(before_step=fail), CallbackHook(after_step=fail)):
        trainer.register_hooks([hook])
        with pytest.raises(ValueError):
            trainer.train(0, 2)
        trainer._hooks.remove(hook)
    assert ends[1:] == [(False, 0), (False, 1)]  # also where it is a hook of the last iteration that fails


def test_a_negative_period_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"period of Acts is -1"):
        Acts(-1)
