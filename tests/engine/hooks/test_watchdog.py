from __future__ import annotations

import io
import logging
import pdb
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from drivetrain.engine.hook_base import HookList
from drivetrain.engine.hooks import CallbackHook, Watchdog
from drivetrain.engine.hooks.board import Board
from drivetrain.engine.hooks.whereabouts import Place
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


def test_steps_pay_nothing_for_it() -> None:
    hooks = HookList([Watchdog(60)])
    assert (hooks.before_step, hooks.after_backward, hooks.after_step, hooks.after_evaluation) == ([], [], [], [])


class Clock:
    """Time that passes when the watchdog waits for its next look, and what it sees then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: list[tuple[float, int, str]]) -> None:
        self.looks, self.now, self.place = list(looks), 0.0, Place()
        self.trainer = SimpleNamespace(iter=0)
        monkeypatch.setattr("drivetrain.engine.hooks.watchdog.monotonic", lambda: self.now)

    def is_set(self, interval: float) -> bool:
        """The next look; True when there is none."""
        if not self.looks:
            return True
        seconds, self.trainer.iter, hook = self.looks.pop(0)
        self.now += seconds
        self.place = Place("after_step", hook) if hook else Place("forward")
        return False


def told(
    monkeypatch: pytest.MonkeyPatch, looks: list[tuple[float, int, str]], timeout: float | None = None
) -> list[str]:
    """What a watchdog tells; looks are (seconds since the one before, iteration, hook at work)."""
    clock, watchdog, reports = Clock(monkeypatch, looks), Watchdog(timeout), list[str]()
    watchdog.trainer = clock.trainer
    monkeypatch.setattr(watchdog._stopped, "wait", clock.is_set)
    monkeypatch.setattr(watchdog, "_place", lambda: clock.place)
    monkeypatch.setattr(watchdog, "_report", reports.append)
    watchdog._watch()
    return reports


def stay(seconds: float, iteration: int, hook: str = "") -> list[tuple[float, int, str]]:
    return [(5.0, iteration, hook)] * int(seconds / 5)


def test_automatic_limits_are_generous_and_tell_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (report,) = told(monkeypatch, [*stay(20, 0), *stay(10, 1), *stay(1000, 7)])
    assert report == (
        "Rank 0 seems to hang, and goes on waiting (WATCHDOG with a number of seconds would end it): iteration 7 has "
        "taken 300.0 s (more than 300 s), in forward\n"
    )
    assert "Rank 0 goes on" not in caplog.text
    assert len(told(monkeypatch, [*stay(10, 0), *stay(600, 1), *stay(20, 2)])) == 1
    assert [r.getMessage() for r in caplog.records] == ["Rank 0 goes on: iteration 1 took 600.0 s"]
    assert told(monkeypatch, [*stay(1790, 0), *stay(100, 1)]) == []  # kernels are chosen, models compiled
    assert len(told(monkeypatch, stay(1810, 0))) == 1
    assert told(monkeypatch, [*stay(10, 0), *stay(3500, 1, "EvalHook"), *stay(5, 2)]) == []
    assert "more than 3600 s), in after_step of hook EvalHook" in told(monkeypatch, stay(3700, 1, "EvalHook"))[0]


def test_automatic_limits_grow_with_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = [*stay(10, 0), *stay(200, 1), *stay(200, 2)]
    assert told(monkeypatch, [*slow, *stay(3000, 3)]) == []  # steps of three minutes: one of fifty is no hang yet
    assert len(told(monkeypatch, [*slow, *stay(4500, 3)])) == 1
    assert told(monkeypatch, [*stay(600, 0), *stay(1000, 1)]) == []  # it was slow from the start
    evaluated = [*stay(10, 0), *stay(3500, 1, "EvalHook")]
    assert told(monkeypatch, [*evaluated, *stay(10, 2), *stay(10_000, 3, "EvalHook")]) == []
    assert len(told(monkeypatch, [*evaluated, *stay(10, 2), *stay(400, 3)])) == 1  # which says nothing of steps
    assert len(told(monkeypatch, [*stay(100, 1), *stay(100, 2), *stay(100, 3)], 60.0)) == 3  # as it was asked for


def test_a_process_that_was_stopped_as_a_whole_begins_anew_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine was suspended, or the process got SIGSTOP, for ten hours."""
    looks = [*stay(10, 0), *stay(200, 1), (36_000.0, 1, ""), *stay(200, 1)]
    assert told(monkeypatch, looks) == []
    assert len(told(monkeypatch, [*looks, *stay(200, 1)])) == 1


def test_a_debuggers_prompt_is_no_hang(caplog: pytest.LogCaptureFixture) -> None:
    places: list[str] = []

    class Typist:
        """Somebody who thinks for a while, looks around and goes on."""

        def readline(self) -> str:
            end = time.monotonic() + 4 * LIMIT
            while time.monotonic() < end:
                places.append(look.submit(watchdog._place).result().hook)
                time.sleep(0.05)
            return "continue\n"

    def stops(t: TrainerBase) -> None:
        if t.iter == 1:
            pdb.Pdb(stdin=Typist(), stdout=io.StringIO(), nosigint=True, readrc=False).set_trace()  # type: ignore[arg-type]

    class Loop(TrainerBase):
        def run_step(self) -> None:
            pass

    watchdog, trace = Watchdog(LIMIT, first_timeout=60, hooks_timeout=LIMIT), sys.gettrace()
    trainer = Loop()
    trainer.register_hooks([watchdog, CallbackHook(before_step=stops)])
    try:
        with ThreadPoolExecutor(1) as look:
            trainer.train(0, 3)
    finally:
        sys.settrace(trace)
    assert set(places) == {"(debugger)"} and Until(caplog).reports() == []


def test_ranks_that_wait_for_one_at_a_prompt_do_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(10)
    watchdog._board, other = Board(tmp_path, 0, 2), Board(tmp_path, 1, 2)
    other.write(3, Place("after_step", "EvalHook"))
    assert (watchdog._exceeded(50, 3, Place("backward")), watchdog._exceeded(150, 3, Place("backward"))) == (0, 100)
    other.write(3, Place("after_step", "(debugger)"))
    assert watchdog._exceeded(1500, 3, Place("backward")) == 0
    other.write(3, Place("forward"))
    assert watchdog._exceeded(50, 3, Place("backward")) == 10
    other.write(3, Place("after_step", "EvalHook"))
    later = time.time() + 60
    monkeypatch.setattr("time.time", lambda: later)  # a rank that tells nothing any more is at work no more
    assert watchdog._exceeded(50, 3, Place("backward")) == 10


def test_a_trainer_that_is_gone_ends_the_thread() -> None:
    class Gone:
        @property
        def iter(self) -> int:
            raise ReferenceError

    watchdog = Watchdog(0.01)
    watchdog.trainer = Gone()
    watchdog._watch()  # returns


def test_bad_arguments() -> None:
    with pytest.raises(TrainingError, match=r"^timeout=0 of"):
        Watchdog(0)
    with pytest.raises(TrainingError, match=r"first_timeout=-1 of"):
        Watchdog(1, first_timeout=-1)
    with pytest.raises(TrainingError, match=r"hooks_timeout=nan of"):
        Watchdog(None, hooks_timeout=float("nan"))
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


def test_notes_of_a_training_whose_processes_are_gone_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda value: [value, ""])
    killed = Watchdog(1, folder=tmp_path)._make_board()
    assert killed is not None
    killed.write(3, Place("forward"))
    alive = Watchdog(1, folder=tmp_path)._make_board()
    assert alive is not None and set(tmp_path.iterdir()) == {killed.folder, alive.folder}
    killed._occupancy.end()  # as the system does for a process that is gone
    following = Watchdog(1, folder=tmp_path)._make_board()
    assert following is not None and set(tmp_path.iterdir()) == {alive.folder, following.folder}
    for board in (alive, following):
        board.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_report_does_not_wait_for_others_when_the_training_is_over(tmp_path: Path) -> None:
    watchdog = Watchdog(100)
    watchdog._board, other = Board(tmp_path, 0, 2), Board(tmp_path, 1, 2)
    watchdog._thread_id = threading.get_ident()
    other.write(3, Place("forward"))  # and does not answer
    threading.Timer(0.2, watchdog._stopped.set).start()
    start = time.monotonic()
    assert "Rank 1 did not tell its stacks" in watchdog._everything(watchdog._board, watchdog._board.ask())
    assert 0.2 <= time.monotonic() - start < 40  # rather than half of its limit
