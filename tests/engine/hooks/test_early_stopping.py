from __future__ import annotations

import math
from typing import Any

import pytest

from drivetrain.engine.hooks import EarlyStopping, EvalHook
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import TrainingError


class Loop(TrainerBase):
    def run_step(self) -> None:
        pass


def build(values: list[float], *args: Any, **options: Any) -> tuple[Loop, EarlyStopping]:
    trainer, left = Loop(), iter(values)
    hook = EarlyStopping("bbox/AP", *args, **options)
    trainer.register_hooks([EvalHook(2, lambda: {"bbox": {"AP": next(left)}}), hook])
    return trainer, hook


@pytest.mark.parametrize(
    ("values", "patience", "stopped_after"),
    [
        ([1, 2, 1, 2, 9], 2, 8),  # the second evaluation is the best: two more without improvement
        ([1, 2, 1, 3, 3, 3, 9], 2, 12),
        ([1, math.nan, math.nan, 9], 2, 6),
        ([5, 4, 9], 1, 4),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 1, 20),  # never
    ],
)
def test_it_stops_after_patience_evaluations(values: list[float], patience: int, stopped_after: int) -> None:
    trainer, _ = build(values, patience)
    trainer.train(0, 20)
    assert trainer.iter == trainer.max_iter == stopped_after


def test_min_delta_counts_small_gains_as_none() -> None:
    trainer, _ = build([4.0, 3.75, 3.625, 0.0], 2, 0.5, mode="min")
    trainer.train(0, 20)
    assert trainer.iter == 6


def test_the_count_survives_a_resume() -> None:
    trainer, _ = build([7, 1, 1], 3)
    trainer.train(0, 6)  # the last of the three is the evaluation at the end
    state = trainer.state_dict()
    assert state["hooks"]["EarlyStopping"] == {"metric": "bbox/AP", "best": 7.0, "waited": 2}
    resumed, _ = build([6.5, 100], 3)
    resumed.load_state_dict(state)
    resumed.train(6, 20)
    assert resumed.iter == 8


def test_an_evaluation_at_the_end_does_not_move_the_end() -> None:
    trainer, _ = build([2, 1], 1)
    trainer.train(0, 4)
    assert trainer.iter == trainer.max_iter == 4


def test_a_resume_whose_missed_evaluation_says_stop_makes_no_step() -> None:
    trainer, _ = build([2], 1)
    trainer.load_state_dict(
        {
            "iteration": 3,
            "hooks": {
                "EvalHook": {"evaluated": 1},
                "EarlyStopping": {"metric": "bbox/AP", "best": 3.0, "waited": 0},
            },
        }
    )
    steps: list[int] = []
    trainer.run_step = lambda: steps.append(trainer.iter)  # type: ignore[method-assign]
    trainer.train(4, 20)
    assert steps == [] and trainer.iter == trainer.max_iter == 4


def test_bad_arguments_and_foreign_state(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TrainingError, match=r"patience=0"):
        EarlyStopping("bbox/AP", 0)
    hook = EarlyStopping("bbox/AP", 1)
    hook.load_state_dict({"metric": "segm/AP", "best": 9.0, "waited": 5})
    assert hook.state_dict() == {"metric": "bbox/AP", "best": None, "waited": 0}
    assert "segm/AP" in caplog.text
