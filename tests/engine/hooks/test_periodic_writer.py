from __future__ import annotations

import logging

import pytest

from drivetrain.engine.hooks import CallbackHook, PeriodicWriter
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import TrainingError
from drivetrain.events.storage import get_event_storage


class Loop(TrainerBase):
    def run_step(self) -> None:
        self.storage.put_scalar("x", self.iter)


class Recorder:
    def __init__(self) -> None:
        self.written: list[tuple[int, float]] = []
        self.closed = 0

    def write(self) -> None:
        storage = get_event_storage()
        self.written.append((storage.iter, storage.latest()["x"][0]))

    def close(self) -> None:
        self.closed += 1


class Failing(Recorder):
    def write(self) -> None:
        raise OSError("disk full")


def test_it_writes_each_period_after_the_last_iteration_and_at_the_end() -> None:
    trainer, writer = Loop(), Recorder()
    hook = PeriodicWriter([writer], period=3)
    assert hook._writers == [writer]
    trainer.register_hooks([hook])
    trainer.train(0, 8)
    assert writer.written == [(2, 2.0), (5, 5.0), (7, 7.0), (8, 7.0)]
    assert writer.closed == 1


def test_after_a_failed_training_it_still_writes_and_closes() -> None:
    trainer, writer = Loop(), Recorder()

    def fail(t: TrainerBase) -> None:
        if t.iter == 1:
            raise KeyError("own")

    trainer.register_hooks([CallbackHook(after_step=fail), PeriodicWriter([writer], period=100)])
    with pytest.raises(KeyError):
        trainer.train(0, 8)
    assert writer.written == [(1, 1.0)]
    assert writer.closed == 1


def test_a_failing_writer_ends_nothing_and_hinders_no_other(caplog: pytest.LogCaptureFixture) -> None:
    trainer, bad, good = Loop(), Failing(), Recorder()
    trainer.register_hooks([PeriodicWriter([bad, good], period=1)])
    with caplog.at_level(logging.WARNING):
        trainer.train(0, 4)
    assert trainer.iter == 4
    assert len(good.written) == 5 and good.closed == bad.closed == 1
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1 and "Failing" in errors[0].getMessage() and errors[0].exc_info
    assert "Failing failed 5 times" in caplog.text
    caplog.clear()
    trainer.train(0, 1)  # counted and told anew
    assert "Failing failed 2 times" in caplog.text and "Traceback" in caplog.text


def test_a_writer_that_cannot_be_closed_hinders_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Recorder):
        def close(self) -> None:
            raise OSError("disk full")

    trainer, good = Loop(), Recorder()
    trainer.register_hooks([PeriodicWriter([Stuck(), good])])
    trainer.train(0, 1)
    assert good.closed == 1 and "Stuck failed 1 times" in caplog.text


def test_bad_arguments() -> None:
    with pytest.raises(TrainingError, match=r"no writer"):
        PeriodicWriter([object()])
    with pytest.raises(TrainingError, match=r"at least 1"):
        PeriodicWriter([], period=0)
