from __future__ import annotations

import logging
import re
import time

import pytest

from drivetrain.engine.hooks import CallbackHook, IterationTimer
from drivetrain.engine.train_loop import TrainerBase

STEP = 0.02


class Sleeper(TrainerBase):
    def run_step(self) -> None:
        time.sleep(STEP)


def test_time_of_the_step_alone_from_the_end_of_the_warm_up_on() -> None:
    trainer = Sleeper()
    # The slow hook comes after the timer: its time is not the step's.
    trainer.register_hooks([IterationTimer(warmup_iter=3), CallbackHook(after_step=lambda _: time.sleep(5 * STEP))])
    trainer.train(10, 15)
    values = trainer.storage.history("time").values()
    assert [iteration for _, iteration in values] == [12, 13, 14]
    assert all(STEP <= seconds < 4 * STEP for seconds, _ in values)


def test_the_summary_lines(caplog: pytest.LogCaptureFixture) -> None:
    trainer = Sleeper()
    trainer.register_hooks([IterationTimer(warmup_iter=2)])
    with caplog.at_level(logging.INFO):
        trainer.train(0, 6)
    lines = [r.getMessage() for r in caplog.records if "iteration_timer" in r.name]
    speed = re.fullmatch(r"Overall training speed: (\d+) iterations in 0:00:00 \((\d\.\d{4}) s / it\)", lines[0])
    assert speed and speed[1] == "5" and STEP <= float(speed[2]) < 5 * STEP
    assert lines[1:] == ["Total training time: 0:00:00 (0:00:00 on hooks)"]


def test_hours_are_shown_and_hooks_are_what_is_not_steps(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("drivetrain.engine.hooks.iteration_timer.perf_counter", lambda: clock[0])

    class Clocked(TrainerBase):
        def run_step(self) -> None:
            clock[0] += 3600.0

    trainer = Clocked()

    def wait(_: object) -> None:
        clock[0] += 61.0

    trainer.register_hooks([IterationTimer(warmup_iter=0), CallbackHook(after_step=wait)])
    with caplog.at_level(logging.INFO):
        trainer.train(0, 2)
    lines = [r.getMessage() for r in caplog.records if "iteration_timer" in r.name]
    assert lines == [
        "Overall training speed: 2 iterations in 2:00:00 (3600.0000 s / it)",
        "Total training time: 2:02:02 (0:02:02 on hooks)",
    ]


def test_a_training_shorter_than_the_warm_up_has_no_speed(caplog: pytest.LogCaptureFixture) -> None:
    trainer = Sleeper()
    trainer.register_hooks([IterationTimer(warmup_iter=3)])
    with caplog.at_level(logging.INFO):
        trainer.train(0, 2)
    assert "Overall training speed" not in caplog.text
    assert "Total training time" in caplog.text
    assert "time" not in trainer.storage.histories()
