from __future__ import annotations

from typing import Any

from drivetrain.engine.hooks import CallbackHook
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.testing import tiny_trainer


class Loop(TrainerBase):
    def run_step(self) -> None:
        self.calls.append("run_step")  # type: ignore[attr-defined]


def test_each_function_is_called_with_the_trainer_at_its_point() -> None:
    trainer = Loop()
    calls: list[str] = []
    trainer.calls = calls  # type: ignore[attr-defined]

    def note(name: str) -> Any:
        return lambda t: calls.append(f"{name}{t.iter}")

    points = ("before_train", "after_train", "before_step", "after_step")
    trainer.register_hooks([CallbackHook(**{p: note(p) for p in points})])
    trainer.train(3, 5)
    assert calls == [
        "before_train3",
        *("before_step3", "run_step", "after_step3"),
        *("before_step4", "run_step", "after_step4"),
        "after_train5",
    ]


def test_after_backward_sees_gradients() -> None:
    trainer = tiny_trainer()
    seen: list[bool] = []
    trainer.register_hooks([CallbackHook(after_backward=lambda t: seen.append(t.model.head.weight.grad is not None))])
    trainer.train(0, 2)
    assert seen == [True, True]


def test_what_is_not_given_is_not_called_by_the_loop() -> None:
    trainer = Loop()
    trainer.register_hooks([CallbackHook(after_step=print)])
    assert len(trainer._hooks.after_step) == 1
    assert not trainer._hooks.before_step and not trainer._hooks.before_train and not trainer._hooks.after_train
