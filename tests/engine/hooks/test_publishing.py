from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine.hooks import (
    BestCheckpointer,
    CallbackHook,
    EarlyStopping,
    EvalHook,
    HookBase,
    PeriodicCheckpointer,
    ValidationLoss,
)
from drivetrain.engine.hooks.publishing import FILE_NAME
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import OutputError
from drivetrain.runtime import comm

Evaluate = Callable[[int], Mapping[str, Any]]


class Loop(TrainerBase):
    """Saves after every iteration, before it evaluates, as trainers do by default."""

    def __init__(self, folder: Path, period: int, evaluate: Evaluate, *hooks: HookBase) -> None:
        super().__init__()
        self.model = torch.nn.Linear(1, 1)
        self.checkpointer = Checkpointer(self.model, str(folder), trainer=self)
        self.evaluated: list[int] = []
        self.heard: list[tuple[int, Mapping[str, float]]] = []
        self.register_hooks(
            [PeriodicCheckpointer(self.checkpointer, 1), EvalHook(period, lambda: self._evaluate(evaluate))]
        )
        self.register_hooks([*hooks, Listener()])

    def run_step(self) -> None:
        pass

    def _evaluate(self, evaluate: Evaluate) -> Mapping[str, Any]:
        self.evaluated.append(self._finished_iteration())
        return evaluate(self._finished_iteration())

    def go_on(self, max_iter: int, name: str = "") -> Loop:
        """Train from the last checkpoint, or from this one."""
        if name:
            self.checkpointer.tag_last_checkpoint(name)
        self.checkpointer.resume_or_load("", resume=True)
        self.train(self.iter + 1, max_iter)
        return self


class Listener(HookBase):
    def after_evaluation(self, results: Mapping[str, float]) -> None:
        self.trainer.heard.append((self.trainer._finished_iteration(), results))


def metric(iteration: int) -> Mapping[str, Any]:
    return {"m": float(iteration)}


@pytest.mark.parametrize("period", [2, 3])  # whether or not the old end is one at which the longer training evaluates
def test_the_last_evaluation_of_a_training_that_is_made_longer_is_made_once(tmp_path: Path, period: int) -> None:
    Loop(tmp_path, period, metric).train(0, 4)
    longer = Loop(tmp_path, period, metric).go_on(6)
    assert longer.evaluated == [5] and longer.heard == [(3, {"m": 3.0}), (5, {"m": 5.0})]
    assert longer.storage.history("m").values() == [(3.0, 3), (5.0, 5)]
    assert longer.storage.smoothing_hints()["m"] is False and longer.iter == 6


def test_hooks_know_what_came_at_the_end(tmp_path: Path) -> None:
    """The checkpoint of the end was written before its evaluation."""

    def hooks(trainer: Loop) -> tuple[BestCheckpointer, EarlyStopping]:
        best = BestCheckpointer(0, trainer.checkpointer, "m")
        return best, EarlyStopping("m", patience=2)

    def loop(*values: float) -> Loop:
        left = iter(values)
        trainer = Loop(tmp_path, 3, lambda _: {"m": next(left)})
        trainer.register_hooks(hooks(trainer))
        return trainer

    loop(1.0, 9.0).train(0, 4)
    longer = loop(5.0, 6.0).go_on(100)
    assert longer.iter == 9  # after iterations 5 and 8 nothing was better than after 3
    folder = longer.checkpointer.folder
    assert [(e.iteration, e.metric) for e in folder.manifest().find("model_best.pth")] == [(3, {"m": 9.0})]


def test_a_resume_after_an_evaluation_does_not_repeat_it(tmp_path: Path) -> None:
    """The process was killed in the step after it, or while hooks heard of it."""

    class Killed(BaseException):
        pass

    def kill(trainer: TrainerBase) -> None:
        if trainer.iter == 2:
            raise Killed

    class Dies(HookBase):
        def after_evaluation(self, results: Mapping[str, float]) -> None:
            raise Killed

    for number, hook in enumerate([CallbackHook(before_step=kill), Dies()]):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            Loop(folder, 2, metric, hook).train(0, 6)
        resumed = Loop(folder, 2, metric).go_on(6)
        assert resumed.evaluated == [3, 5] and [iteration for iteration, _ in resumed.heard] == [1, 3, 5]


def test_an_evaluation_that_was_not_through_is_made(tmp_path: Path) -> None:
    def fails(iteration: int) -> Mapping[str, Any]:
        raise ValueError

    with pytest.raises(ValueError):
        Loop(tmp_path, 2, fails).train(0, 6)
    assert Loop(tmp_path, 2, metric).go_on(6).evaluated == [1, 3, 5]


def test_with_nothing_left_to_do_the_end_is_evaluated_anew(tmp_path: Path) -> None:
    Loop(tmp_path, 2, metric).train(0, 4)
    again = Loop(tmp_path, 2, metric).go_on(4)
    assert again.evaluated == [3] and again.heard == [(3, {"m": 3.0})]


def test_results_of_iterations_that_are_made_again_are_not_used(tmp_path: Path) -> None:
    Loop(tmp_path, 2, metric).train(0, 4)

    def killed(iteration: int) -> Mapping[str, Any]:
        raise ZeroDivisionError  # in the evaluation, after the checkpoint of the same iteration

    with pytest.raises(ZeroDivisionError):
        Loop(tmp_path, 2, killed).go_on(6, "model_0000002.pth")
    assert Loop(tmp_path, 2, metric).go_on(6).evaluated == [3, 5]


def test_a_new_training_in_the_folder_forgets_what_is_kept(tmp_path: Path) -> None:
    Loop(tmp_path, 2, metric).train(0, 4)
    anew = Loop(tmp_path, 2, metric)
    anew.register_hooks([CallbackHook(before_step=lambda t: 1 // 0)])
    with pytest.raises(ZeroDivisionError):
        anew.train(0, 4)
    assert json.loads((tmp_path / FILE_NAME).read_text()) == {}


def test_each_hook_has_its_own_and_every_number_comes_back(tmp_path: Path) -> None:
    values = {"a": {"b": 0.1 + 0.2, "none": math.nan}, "least": -math.inf}

    def loop() -> tuple[Loop, list[int]]:
        trainer, second = Loop(tmp_path, 2, lambda _: values), list[int]()

        def evaluate() -> Mapping[str, Any]:
            second.append(1)
            return {"other": 7}

        trainer.register_hooks([EvalHook(0, evaluate)])
        return trainer, second

    loop()[0].train(0, 4)
    text = (tmp_path / FILE_NAME).read_text()
    assert set(json.loads(text, parse_constant=pytest.fail)) == {"EvalHook", "EvalHook#2"}
    trainer, second = loop()
    trainer.go_on(6)
    assert trainer.evaluated == [5] and second == [1]
    assert str(trainer.heard[0][1]) == str({"a/b": 0.1 + 0.2, "a/none": math.nan, "least": -math.inf})
    assert trainer.heard[1] == (3, {"other": 7.0})


def test_a_validation_loss_is_not_computed_again_either(tmp_path: Path) -> None:
    passes: list[int] = []

    class Batches:
        def __iter__(self) -> Any:
            passes.append(1)
            return iter([torch.ones(2, 1)])

    def loop() -> Loop:
        trainer = Loop(tmp_path, 0, metric, ValidationLoss(Batches(), 2))
        trainer.model.forward = lambda batch: {"loss": batch.sum()}  # type: ignore[method-assign,assignment,return-value]
        return trainer

    loop().train(0, 4)
    longer = loop().go_on(6)
    assert len(passes) == 3 and longer.heard[:2] == [
        (3, {"m": 3.0}),
        (3, {"validation_loss": 2.0, "validation/loss": 2.0}),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "[" * 100_000,
        '{"EvalHook": 3}',
        '{"EvalHook": {"iteration": 3}}',
        '{"EvalHook": {"iteration": "3", "results": {}}}',
        '{"EvalHook": {"iteration": 3, "results": {"m": "high"}}}',
        '{"EvalHook": {"iteration": 3, "results": {"m": []}}}',
        '{"EvalHook": {"iteration": 3, "results": {"m": 1' + "0" * 400 + "}}}",
    ],
)
def test_a_file_that_says_nothing_of_use_is_as_none(tmp_path: Path, text: str) -> None:
    Loop(tmp_path, 2, metric).train(0, 4)
    (tmp_path / FILE_NAME).write_text(text)
    assert Loop(tmp_path, 2, metric).go_on(6).evaluated == [3, 5]


def test_a_disk_that_cannot_be_written_ends_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).mkdir()
    trainer = Loop(tmp_path, 2, metric)
    trainer.train(0, 4)
    assert trainer.evaluated == [1, 3] and f"{FILE_NAME} cannot be written" in caplog.text


def test_what_cannot_be_forgotten_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Loop(tmp_path, 2, metric).train(0, 4)

    def full(*_: object) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr("drivetrain.engine.hooks.publishing.atomic_write", full)
    anew = Loop(tmp_path, 2, metric)
    anew.register_hooks([CallbackHook(before_step=lambda t: 1 // 0)])
    with pytest.raises(ZeroDivisionError):
        anew.train(0, 4)
    assert not (tmp_path / FILE_NAME).exists()


def test_other_ranks_hear_of_it_without_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Loop(tmp_path, 2, metric).train(0, 4)
    other = Loop(tmp_path, 2, metric)
    other.checkpointer.resume_or_load("", resume=True)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "all_gather", lambda value: [{"m": 3.0}, value])
    other._hooks.pop(0)
    before = (tmp_path / FILE_NAME).read_text()
    other.train(4, 6)
    assert other.evaluated == [5] and other.heard[0] == (3, {})
    assert (tmp_path / FILE_NAME).read_text() == before
