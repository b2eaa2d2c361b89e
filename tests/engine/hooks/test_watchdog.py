from __future__ import annotations

import logging
import threading
import time

import pytest

from drivetrain.engine.hooks import CallbackHook, Watchdog
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import TrainingError
from drivetrain.runtime import comm
from drivetrain.testing import tiny_trainer

# Generous against a busy machine: limits are 0.4 s, hangs last until the report is there.
LIMIT = 0.4


class Until:
    """A handler that collects reports; ``wait`` hangs until there is one."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog

    def reports(self) -> list[str]:
        return [r.getMessage() for r in self.caplog.records if r.levelno == logging.CRITICAL]

    def a_hang_in_this_function(self, *_: object) -> None:
        end = time.monotonic() + 30
        while not self.reports() and time.monotonic() < end:
            time.sleep(0.01)


def test_a_hanging_step_is_reported_with_iteration_phase_and_stacks(caplog: pytest.LogCaptureFixture) -> None:
    until = Until(caplog)
    trainer = tiny_trainer()
    batch = trainer.data_loader.batch  # type: ignore[attr-defined]
    trainer.data_loader.batch = lambda i: [{**item, "image_id": 10 * i} for item in batch(i)]  # type: ignore[attr-defined]

    def slow(*_: object) -> None:
        if trainer.iter == 3:
            until.a_hang_in_this_function()

    trainer.model.conv.register_forward_pre_hook(slow)  # type: ignore[union-attr]
    trainer.register_hooks([Watchdog(LIMIT, first_timeout=60)])
    start = time.monotonic()
    trainer.train(0, 5)
    assert time.monotonic() - start < 20
    (report,) = until.reports()
    assert report.startswith("Rank 0 hangs: iteration 3 has taken ") and ", in forward\n" in report
    assert "a_hang_in_this_function" in report and "Thread MainThread" in report
    assert "\nBatch at hand: image_id 30, image_id 30" in report


def test_a_hanging_hook_is_named_and_has_its_own_limit(caplog: pytest.LogCaptureFixture) -> None:
    class Loop(TrainerBase):
        def run_step(self) -> None:
            pass

    class SlowHook(CallbackHook):
        pass

    until = Until(caplog)
    trainer = Loop()
    hook = SlowHook(after_step=lambda t: until.a_hang_in_this_function() if t.iter == 1 else None)
    trainer.register_hooks([Watchdog(0.05, first_timeout=60, hooks_timeout=LIMIT), hook])
    start = time.monotonic()
    trainer.train(0, 3)
    assert time.monotonic() - start >= LIMIT
    (report,) = until.reports()
    assert "iteration 1 has taken" in report and ", in after_step of hook SlowHook" in report


def test_the_first_step_may_take_longer(caplog: pytest.LogCaptureFixture) -> None:
    class Loop(TrainerBase):
        def run_step(self) -> None:
            time.sleep(0.3)

    trainer = Loop()
    trainer.register_hooks([Watchdog(0.05, first_timeout=60)])
    trainer.train(0, 1)
    assert Until(caplog).reports() == []
    trainer = Loop()
    trainer.register_hooks([Watchdog(0.05)])  # ten times that by default
    trainer.train(0, 2)
    (report,) = Until(caplog).reports()
    assert "iteration 1" in report and ", in run_step\n" in report


def test_no_thread_is_left_and_quiet_trainings_are_quiet(caplog: pytest.LogCaptureFixture) -> None:
    trainer = tiny_trainer()
    trainer.register_hooks([Watchdog(60)])
    names = lambda: [t.name for t in threading.enumerate()]  # noqa: E731
    running: list[bool] = []
    trainer.register_hooks([CallbackHook(after_step=lambda t: running.append("watchdog" in names()))])
    trainer.train(0, 2)
    assert running == [True, True]
    assert "watchdog" not in names() and Until(caplog).reports() == []


def test_abort_ends_the_process_after_the_report(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[tuple[int, int]] = []
    until = Until(caplog)
    monkeypatch.setattr("os._exit", lambda code: codes.append((code, len(until.reports()))))

    class Hanging(TrainerBase):
        def run_step(self) -> None:
            end = time.monotonic() + 30
            while not codes and time.monotonic() < end:
                time.sleep(0.01)

    trainer = Hanging()
    trainer.register_hooks([Watchdog(LIMIT, first_timeout=LIMIT, abort=True)])
    trainer.train(0, 1)
    assert codes == [(1, 1)]


def test_bad_arguments() -> None:
    with pytest.raises(TrainingError, match=r"timeout=0"):
        Watchdog(0)
    with pytest.raises(TrainingError, match=r"folder='not/there' .* make it"):
        Watchdog(1, folder="not/there")


def test_without_a_place_for_notes_each_rank_tells_of_itself(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda value: [value, ""])
    assert Watchdog(1)._make_board() is None
    assert "tells of itself alone" in caplog.text and "No space left" in caplog.text
