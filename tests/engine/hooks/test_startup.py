from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine.hooks import CallbackHook, PreemptionCheckpointer
from drivetrain.engine.hooks.startup import before_startup, resumable_startup
from drivetrain.testing import tiny_trainer


def test_with_a_checkpoint_it_exits_with_code_75(tmp_path: Path) -> None:
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    cleaned = False
    with pytest.raises(SystemExit) as ended, resumable_startup(str(tmp_path)):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("it went on")
        finally:
            cleaned = True
    assert ended.value.code == 75 and cleaned
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_without_one_it_ends_by_the_signal_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
        import os, signal, sys
        from drivetrain.engine.hooks.startup import resumable_startup

        assert "torch" not in sys.modules
        with resumable_startup({str(tmp_path)!r}):
            os.kill(os.getpid(), signal.SIGUSR1)
        print("it went on")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGUSR1, "", "")


def test_a_handler_of_the_users_is_called_and_comes_back(tmp_path: Path) -> None:
    got: list[int] = []
    handler = lambda number, frame: got.append(number)  # noqa: E731
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with resumable_startup(str(tmp_path)):
            assert before_startup(signal.getsignal(signal.SIGUSR1)) is handler
            os.kill(os.getpid(), signal.SIGUSR1)
        assert got == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is handler and before_startup(handler) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_training_takes_over_and_does_not_give_it_back(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    checkpointer = Checkpointer(trainer.model, str(tmp_path), trainer=trainer)
    kill = CallbackHook(after_backward=lambda t: os.kill(os.getpid(), signal.SIGTERM) if t.iter == 2 else None)
    trainer.register_hooks([kill, PreemptionCheckpointer(checkpointer)])
    with resumable_startup(str(tmp_path)):
        with pytest.raises(SystemExit):
            trainer.train(0, 5)
        assert trainer._finished_iteration() == 2  # at the end of the step, not at once
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_outside_the_main_thread_nothing_changes(tmp_path: Path) -> None:
    seen: list[object] = []

    def work() -> None:
        with resumable_startup(str(tmp_path)):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
