from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from drivetrain.engine.hooks import CallbackHook, EvalHook, HookBase
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.testing import assert_same_training, tiny_loader, tiny_trainer


class Loop(TrainerBase):
    def run_step(self) -> None:
        pass


class Listener(HookBase):
    def __init__(self) -> None:
        self.heard: list[tuple[int, dict[str, float]]] = []

    def after_evaluation(self, results: Any) -> None:
        self.heard.append((self.trainer.iter, results))


def evaluations(trainer: Loop, period: int, *hooks: Any, **options: Any) -> list[int]:
    """Iterations at which the evaluation function is called."""
    called: list[int] = []
    trainer.register_hooks([EvalHook(period, lambda: called.append(trainer.iter), **options), *hooks])
    return called


@pytest.mark.parametrize(
    ("period", "max_iter", "after", "expected"),
    [
        (3, 8, True, [2, 5, 8]),
        (3, 6, True, [2, 6]),  # the last one in after_train alone
        (3, 6, False, [2]),
        (3, 8, False, [2, 5]),
        (0, 4, True, [4]),
        (0, 4, False, []),
    ],
)
def test_when_it_evaluates(period: int, max_iter: int, after: bool, expected: list[int]) -> None:
    trainer = Loop()
    called = evaluations(trainer, period, eval_after_train=after)
    trainer.train(0, max_iter)
    assert called == expected


def test_results_are_put_unsmoothed_at_the_iteration_they_belong_to() -> None:
    trainer, left = Loop(), iter([1.0, 2.0, 3.0])
    listener = Listener()
    hook = EvalHook(2, lambda: {"bbox": {"AP": next(left)}})
    trainer.register_hooks([hook, listener])
    trainer.train(0, 5)
    assert trainer.storage.history("bbox/AP").values() == [(1.0, 1), (2.0, 3), (3.0, 4)]
    assert trainer.storage.smoothing_hints()["bbox/AP"] is False
    assert listener.heard == [(1, {"bbox/AP": 1.0}), (3, {"bbox/AP": 2.0}), (5, {"bbox/AP": 3.0})]
    assert hook._period == 2 and callable(hook._func)


@pytest.mark.parametrize("nothing", [None, {}])
def test_without_results_nothing_is_put_but_hooks_are_told(nothing: Any) -> None:
    trainer, listener = Loop(), Listener()
    trainer.register_hooks([EvalHook(0, lambda: nothing), listener])
    trainer.train(0, 2)
    assert trainer.storage.histories() == {}
    assert listener.heard == [(2, {})]


def test_what_is_no_number_is_an_error_that_names_it() -> None:
    trainer = Loop()
    trainer.register_hooks([EvalHook(1, lambda: {"bbox": {"AP": "high"}})])
    with pytest.raises(ValueError, match="'bbox/AP'"):
        trainer.train(0, 2)


def test_a_failed_training_is_not_evaluated() -> None:
    def fail(t: TrainerBase) -> None:
        if t.iter == 4:
            raise RuntimeError

    trainer = Loop()
    called = evaluations(trainer, 2, CallbackHook(after_step=fail))
    with pytest.raises(RuntimeError):
        trainer.train(0, 5)
    assert called == [1, 3]


def test_a_training_ended_by_another_hook_is_evaluated_once() -> None:
    def stop(at: int) -> CallbackHook:
        return CallbackHook(after_step=lambda t: t.request_stop("test") if t.iter == at else None)

    trainer = Loop()
    called = evaluations(trainer, 3, stop(5))
    trainer.train(0, 100)
    assert called == [2, 5]
    trainer = Loop()
    called = evaluations(trainer, 3, stop(6))
    trainer.train(0, 100)
    assert called == [2, 5, 7]


def test_overrides_of_do_eval_are_used_and_published() -> None:
    class Own(EvalHook):
        def _do_eval(self) -> dict[str, float]:
            return {"own": {"m": self._func()["x"]}}  # type: ignore[index,dict-item]

    class Around(EvalHook):
        got: Any = None

        def _do_eval(self) -> dict[str, float]:
            self.got = super()._do_eval()
            return self.got

    trainer, listener = Loop(), Listener()
    around = Around(0, lambda: {"a": {"b": 2}})
    trainer.register_hooks([Own(0, lambda: {"x": 1.0}), around, listener])
    trainer.train(0, 1)
    assert [results for _, results in listener.heard] == [{"own/m": 1.0}, {"a/b": 2.0}]
    assert around.got == {"a/b": 2.0}


def test_watching_never_changes_training() -> None:
    def watched() -> Any:
        trainer = tiny_trainer()

        def evaluate() -> dict[str, float]:
            trainer.model.eval()  # and nobody puts it back
            with torch.no_grad():
                for batch in tiny_loader(batches=2, seed=9):
                    trainer.model(batch)
            return {"noise": float(torch.rand(()))}

        trainer.register_hooks([EvalHook(2, evaluate)])
        return trainer

    assert_same_training(tiny_trainer, watched, max_iter=6)


def test_a_missed_evaluation_is_made_up_for(caplog: pytest.LogCaptureFixture) -> None:
    def resumed(*hooks: Any, state: dict[str, Any]) -> tuple[list[int], Loop]:
        trainer = Loop()
        called: list[int] = []

        def evaluate() -> dict[str, float]:
            called.append(trainer.iter)
            return {"m": 1.0}

        trainer.register_hooks([EvalHook(2, evaluate, eval_after_train=False), *hooks])
        trainer.load_state_dict({"iteration": 3, "hooks": {"EvalHook": state}})
        trainer.train(4, 6)
        return called, trainer

    missed, done = {"evaluated": 1}, {"evaluated": 3}
    listener = Listener()
    with caplog.at_level(logging.INFO):
        called, trainer = resumed(listener, state=missed)
    assert called == [3] and "EvalHook makes up for iteration 3" in caplog.text
    assert listener.heard == [(3, {"m": 1.0})]
    assert trainer.storage.history("m").values() == [(1.0, 3)]
    assert trainer.iter == 6
    assert resumed(Listener(), state=done)[0] == []
    assert resumed(state=missed)[0] == [3]  # for the writers


def test_the_last_evaluation_is_made_up_for_where_it_belongs() -> None:
    """In ``after_train``, as without an interruption; not at all where that was not wanted."""
    for period, after, expected in [(2, True, [4]), (0, True, [4]), (2, False, [])]:
        trainer = Loop()
        called = evaluations(trainer, period, eval_after_train=after)
        trainer.load_state_dict({"iteration": 3, "hooks": {"EvalHook": {"evaluated": 1}}})
        trainer.train(4, 4)
        assert called == expected


def test_a_training_that_was_left_before_its_first_iteration_has_missed_none() -> None:
    trainer = Loop()
    called = evaluations(trainer, 1, eval_after_train=False)
    trainer.load_state_dict({"iteration": -1, "hooks": {"EvalHook": {"evaluated": None}}})
    trainer.train(0, 2)
    assert called == [0]


def test_a_negative_period_is_none() -> None:
    trainer = Loop()
    called = evaluations(trainer, -1)
    trainer.train(0, 2)
    assert called == [2]


def test_the_state_says_what_is_evaluated() -> None:
    trainer = Loop()
    states: list[Any] = []
    hook = EvalHook(2, lambda: states.append(hook.state_dict()))
    trainer.register_hooks([hook])
    trainer.train(0, 3)
    assert states[0] == {"evaluated": None}  # begun, but not finished
    assert hook.state_dict() == {"evaluated": 2}


def test_ranks_meet_after_the_evaluation_and_before_anybody_acts_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr("drivetrain.runtime.comm.synchronize", lambda: events.append("met"))

    class Acts(HookBase):
        def after_evaluation(self, results: Any) -> None:
            events.append("acted")

    trainer = Loop()
    trainer.register_hooks([EvalHook(0, lambda: events.append("evaluated")), Acts()])
    trainer.train(0, 1)
    assert events == ["evaluated", "met", "acted"]
