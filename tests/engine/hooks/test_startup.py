from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine.hooks import CallbackHook, PreemptionCheckpointer
from drivetrain.engine.hooks.startup import asked_at_startup, before_startup, resumable_startup
from drivetrain.testing import tiny_trainer


def in_a_process(body: str) -> subprocess.CompletedProcess[str]:
    code = f"""
import os, signal, sys
from drivetrain.engine.hooks.startup import resumable_startup

assert "torch" not in sys.modules
{textwrap.dedent(body)}
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_it_exits_with_code_75_and_a_sentence_cleaning_up_and_importing_nothing_heavy(name: str) -> None:
    result = in_a_process(f"""
        with resumable_startup("before the first step: run it again"):
            try:
                os.kill(os.getpid(), signal.{name})
                print("it went on")
            finally:
                print("cleaned up")
    """)
    assert (result.returncode, result.stdout) == (75, "cleaned up\n")
    assert result.stderr == f"\n{name} before the first step: run it again\n"


def test_within_an_import_too(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    result = in_a_process(f"""
        sys.path.insert(0, {str(tmp_path)!r})
        with resumable_startup():
            import slow
    """)
    assert result.returncode == 75 and "Traceback" not in result.stderr
    assert "nothing new to save or to resume, run the same command again" in result.stderr


def test_of_several_ranks_one_says_it() -> None:
    result = in_a_process("""
        os.environ["RANK"] = "1"
        with resumable_startup():
            os.kill(os.getpid(), signal.SIGTERM)
    """)
    assert (result.returncode, result.stderr) == (75, "")


def test_processes_that_were_ended_before_they_listened(capfd: pytest.CaptureFixture[str]) -> None:
    """As the launcher tells of them."""
    with pytest.raises(SystemExit) as ended, resumable_startup("before the first step"):
        raise SystemExit(128 + signal.SIGTERM)
    assert ended.value.code == 75 and "SIGTERM before the first step" in capfd.readouterr().err
    for code in (2, 75, None, "text", 128 + signal.SIGINT):
        with pytest.raises(SystemExit) as ended, resumable_startup("before the first step"):
            raise SystemExit(code)
        assert ended.value.code == code
    assert "before" not in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_innermost_of_nested_blocks_speaks(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), resumable_startup("outer"), resumable_startup("inner"):
        assert before_startup(signal.getsignal(signal.SIGTERM)) == signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == "\nSIGTERM inner\n"
    with pytest.raises(SystemExit), resumable_startup("outer"):
        with resumable_startup("inner"):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == "\nSIGTERM outer\n"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_forked_worker_ends_by_the_signal(capfd: pytest.CaptureFixture[str]) -> None:
    with resumable_startup():
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    assert capfd.readouterr().err == ""


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with resumable_startup():
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_of_the_users_is_called_and_comes_back() -> None:
    got: list[int] = []
    handler = lambda number, frame: got.append(number)  # noqa: E731
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with resumable_startup():
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
    with resumable_startup():
        with pytest.raises(SystemExit):
            trainer.train(0, 5)
        assert trainer._finished_iteration() == 2  # at the end of the step, not at once
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_whose_exception_was_lost_is_taken_up_by_the_training(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    checkpointer = Checkpointer(trainer.model, str(tmp_path), trainer=trainer)
    trainer.register_hooks([PreemptionCheckpointer(checkpointer)])
    with pytest.raises(SystemExit) as ended, resumable_startup():
        with suppress(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        with resumable_startup():
            assert asked_at_startup(signal.getsignal(signal.SIGTERM))
            assert not asked_at_startup(signal.getsignal(signal.SIGUSR1))
            trainer.train(0, 5)
    assert ended.value.code == 75 and trainer._finished_iteration() == -1
    assert (tmp_path / "model_preempted.pth").exists()


def test_outside_the_main_thread_nothing_changes() -> None:
    seen: list[object] = []

    def work() -> None:
        with resumable_startup():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
