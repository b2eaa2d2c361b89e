from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine.hooks import CallbackHook, EvalHook, PreciseBN, PreemptionCheckpointer
from drivetrain.engine.hooks.preemption import EXIT_RESUMABLE
from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.errors import TrainingError
from drivetrain.testing import TinyModel, tiny_loader, tiny_trainer


def build(folder: Path, *hooks: Any, **options: Any) -> tuple[Any, Checkpointer]:
    trainer = tiny_trainer()
    checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
    trainer.register_hooks([*hooks, PreemptionCheckpointer(checkpointer, **options)])
    return trainer, checkpointer


def send(number: signal.Signals, at: int) -> CallbackHook:
    """Sends a signal to this process in the step of an iteration."""
    return CallbackHook(after_backward=lambda t: os.kill(os.getpid(), number) if t.iter == at else None)


def exit_code(trainer: Any, start: int, end: int) -> Any:
    with pytest.raises(SystemExit) as ended:
        trainer.train(start, end)
    return ended.value.code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_after_the_step_and_the_resumed_training_is_the_same(
    tmp_path: Path, number: signal.Signals
) -> None:
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    whole = tiny_trainer()
    whole.train(0, 6)
    after: list[int] = []
    trainer, _ = build(tmp_path, send(number, at=2), CallbackHook(after_step=lambda t: after.append(t.iter)))
    assert exit_code(trainer, 0, 6) == EXIT_RESUMABLE == 75
    assert after == [0, 1, 2]  # the step that was under way, with all of its hooks, and no other
    assert {s: signal.getsignal(s) for s in handlers} == handlers
    resumed, checkpointer = build(tmp_path)
    assert checkpointer.get_checkpoint_file().endswith("model_preempted.pth")
    checkpointer.resume_or_load("")
    assert resumed.iter == 2
    resumed.train(3, 6)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())


def test_a_signal_in_the_last_step_lets_a_training_finish_that_has_nothing_else_to_do(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path, send(signal.SIGTERM, at=2))
    trainer.train(0, 3)
    assert trainer.iter == 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_evaluation_is_left_at_its_next_batch_and_made_up_for(tmp_path: Path) -> None:
    batches: list[int] = []

    def evaluation(trainer: Any, interrupt: bool) -> Any:
        @torch.no_grad()
        def evaluate() -> dict[str, float]:
            trainer.model.eval()
            for index, batch in enumerate(tiny_loader(batches=4, seed=3)):
                if interrupt and index == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                trainer.model(batch)
                batches.append(index)
            return {"m": 1.0}

        return evaluate

    trainer, _ = build(tmp_path)
    trainer._hooks.insert(0, EvalHook(2, evaluation(trainer, True)))
    assert exit_code(trainer, 0, 6) == 75
    assert batches == [0, 1]
    assert trainer.model.training and not trainer.model._forward_pre_hooks
    saved = torch.load(tmp_path / "model_preempted.pth", weights_only=True)
    assert saved["trainer"]["iteration"] == 1
    batches.clear()
    resumed, checkpointer = build(tmp_path)
    resumed._hooks.insert(0, EvalHook(2, evaluation(resumed, False)))
    checkpointer.resume_or_load("")
    resumed.train(2, 3)
    assert resumed.storage.history("m").values() == [(1.0, 1), (1.0, 2)]


def evaluates(trainer: Any, act: Any) -> Any:
    """An evaluation of four batches that calls ``act(index)`` before each one."""

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        trainer.model.eval()
        for index, batch in enumerate(tiny_loader(batches=4, seed=3)):
            act(index)
            trainer.model(batch)
        return {"m": 1.0}

    return evaluate


def test_a_compiled_model_leaves_it_too(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path)
    trainer.model.compile(backend="eager")
    compiled = trainer.model._compiled_call_impl
    seen: list[int] = []

    def act(index: int) -> None:
        seen.append(index)
        if index == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer._hooks.insert(0, EvalHook(2, evaluates(trainer, act)))
    assert exit_code(trainer, 0, 6) == 75
    assert seen == [0, 1, 2] and trainer.model._compiled_call_impl is compiled


def test_the_time_limit_ends_an_evaluation(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path, time_limit=0.3)
    seen: list[int] = []

    def act(index: int) -> None:
        seen.append(index)
        end = time.monotonic() + 30
        while index == 1 and trainer._hooks[1]._reason is None and time.monotonic() < end:
            time.sleep(0.01)

    trainer._hooks.insert(0, EvalHook(1, evaluates(trainer, act)))
    assert exit_code(trainer, 0, 6) == 75
    assert seen in ([0, 1], [0]) and "preemption" not in [thread.name for thread in threading.enumerate()]
    assert torch.load(tmp_path / "model_preempted.pth", weights_only=True)["iteration"] == 0


def test_after_the_last_step_an_evaluation_is_left_too_and_made_up_for(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path)
    act = lambda index: os.kill(os.getpid(), signal.SIGTERM) if index == 1 else None  # noqa: E731
    trainer._hooks.insert(0, EvalHook(0, evaluates(trainer, act)))
    assert exit_code(trainer, 0, 3) == 75
    assert "m" not in trainer.storage.histories()
    assert not trainer.model._forward_pre_hooks
    resumed, checkpointer = build(tmp_path)
    resumed._hooks.insert(0, EvalHook(0, evaluates(resumed, lambda index: None)))
    checkpointer.resume_or_load("")
    assert resumed.iter == 2
    resumed.train(3, 3)
    assert resumed.storage.history("m").values() == [(1.0, 2)]
    expected = trainer.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.model.state_dict().items())


class Figures:
    """What comes after the batches of an evaluation, in two parts; the signal comes in the first."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def evaluate(self) -> None:
        self.calls.append("evaluate")
        os.kill(os.getpid(), signal.SIGTERM)
        self.matched()
        self.accumulate()

    def matched(self) -> None:
        self.calls.append("matched")

    def accumulate(self) -> None:
        self.calls.append("accumulate")


def test_figures_are_left_where_another_part_of_them_begins(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path)
    figures = Figures()

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        figures.evaluate()
        return {"m": 1.0}

    trainer._hooks.insert(0, EvalHook(2, evaluate))
    assert exit_code(trainer, 0, 6) == 75
    assert figures.calls == ["evaluate", "matched"]
    assert sys.getprofile() is None
    saved = torch.load(tmp_path / "model_preempted.pth", weights_only=True)["trainer"]
    assert (saved["iteration"], saved["hooks"]["EvalHook"]) == (1, {"evaluated": None})


def test_the_time_limit_ends_figures_too(tmp_path: Path) -> None:
    """A thread looks at the clock; it is the main one that has to leave."""
    trainer, _ = build(tmp_path, time_limit=0.3)
    parts: list[int] = []

    def accumulate(part: int) -> None:
        parts.append(part)
        time.sleep(0.05)

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        for part in range(400):
            accumulate(part)
        return {"m": 1.0}

    trainer._hooks.insert(0, EvalHook(1, evaluate))
    assert exit_code(trainer, 0, 6) == 75
    assert 0 < len(parts) < 400 and sys.getprofile() is None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    saved = torch.load(tmp_path / "model_preempted.pth", weights_only=True)["trainer"]
    assert (saved["iteration"], saved["hooks"]["EvalHook"]) == (0, {"evaluated": None})


def test_functions_of_such_names_in_a_step_are_left_alone(tmp_path: Path) -> None:
    figures = Figures()
    trainer, _ = build(tmp_path)
    forward = trainer.forward

    def matching(batch: Any) -> Any:
        if trainer.iter == 1:
            with torch.no_grad():
                figures.evaluate()
        return forward(batch)

    trainer.forward = matching
    assert exit_code(trainer, 0, 6) == 75
    assert figures.calls == ["evaluate", "matched", "accumulate"] and sys.getprofile() is None
    assert torch.load(tmp_path / "model_preempted.pth", weights_only=True)["iteration"] == 1


def test_a_profiler_of_somebody_else_stays(tmp_path: Path) -> None:
    own = lambda *event: None  # noqa: E731
    trainer, _ = build(tmp_path, send(signal.SIGTERM, at=1))
    sys.setprofile(own)
    try:
        assert exit_code(trainer, 0, 6) == 75
        assert sys.getprofile() is own
    finally:
        sys.setprofile(None)


def test_precise_bn_is_left_with_the_statistics_of_before(tmp_path: Path) -> None:
    class Model(TinyModel):
        def forward(self, batch: Any) -> Any:
            calls.append(self.norm.running_mean.clone())
            if not torch.is_grad_enabled() and len(calls) == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().forward(batch)

    calls: list[torch.Tensor] = []
    model = Model()
    trainer = SimpleTrainer(model, tiny_loader(), torch.optim.SGD(model.parameters(), 0.01))
    checkpointer = Checkpointer(model, str(tmp_path), trainer=trainer)
    trainer.register_hooks([PreciseBN(2, model, tiny_loader(seed=5), 8), PreemptionCheckpointer(checkpointer)])
    assert exit_code(trainer, 0, 6) == 75
    assert len(calls) == 4  # two steps, and two of eight batches
    assert not torch.equal(calls[2], calls[3])  # a pass in training mode had changed them
    saved = torch.load(tmp_path / "model_preempted.pth", weights_only=True)["model"]
    assert torch.equal(saved["norm.running_mean"], calls[2])
    assert not model.norm._forward_pre_hooks and not model._forward_pre_hooks


def test_a_training_step_is_not_left_in_the_middle(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path)
    fetch = trainer.fetch

    def fetch_with_signal() -> Any:
        if trainer.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)  # the forward is still to come
        return fetch()

    trainer.fetch = fetch_with_signal
    assert exit_code(trainer, 0, 5) == 75
    assert torch.load(tmp_path / "model_preempted.pth", weights_only=True)["iteration"] == 1


def test_the_time_limit(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path, CallbackHook(after_step=lambda t: time.sleep(0.05)), time_limit=0.2)
    assert exit_code(trainer, 0, 1000) == 75
    assert 0 <= torch.load(tmp_path / "model_preempted.pth", weights_only=True)["iteration"] < 10


def test_the_log_ends_with_the_command_that_continues(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer, _ = build(tmp_path, time_limit=1e-9, command="drivetrain resume here")
    exit_code(trainer, 0, 4)
    assert caplog.messages[-1] == "Continue this training with: drivetrain resume here"
    caplog.clear()
    trainer, _ = build(tmp_path, command="drivetrain resume here")
    trainer.train(0, 2)
    assert "Continue" not in caplog.text


def test_a_second_interrupt_is_not_caught(tmp_path: Path) -> None:
    def twice(t: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)  # two that come together are one
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    trainer, _ = build(tmp_path, CallbackHook(after_backward=twice))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.train(0, 5)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list(tmp_path.glob("*.pth"))


def test_outside_the_main_thread_signals_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer, _ = build(tmp_path)
    thread = threading.Thread(target=trainer.train, args=(0, 2))
    thread.start()
    thread.join()
    assert trainer.iter == 2 and "main thread" in caplog.text


def test_forked_processes_do_not_save(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path)

    def fork(t: Any) -> None:
        if t.iter:
            return
        pid = os.fork()
        if pid == 0:  # as a worker of a loader
            try:
                for _ in range(2):  # Ctrl-C goes to all processes; the second one ends the training alone
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.05)
            except BaseException:
                os._exit(8)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7

    trainer.register_hooks([CallbackHook(before_step=fork)])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        trainer.train(0, 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert trainer.iter == 3


def test_the_process_ends_with_code_75(tmp_path: Path) -> None:
    code = f"""
        import os, signal, sys
        from drivetrain.checkpoint import Checkpointer
        from drivetrain.engine.hooks import CallbackHook, PreemptionCheckpointer
        from drivetrain.testing import tiny_trainer

        trainer = tiny_trainer()
        checkpointer = Checkpointer(trainer.model, {str(tmp_path)!r}, trainer=trainer)
        ready = CallbackHook(after_step=lambda t: print("step", flush=True))
        trainer.register_hooks([ready, PreemptionCheckpointer(checkpointer)])
        trainer.train(0, 10**9)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "step\n"
    start = time.monotonic()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert time.monotonic() - start < 10
    assert (tmp_path / "model_preempted.pth").exists()


def test_a_bad_limit() -> None:
    with pytest.raises(TrainingError, match=r"time_limit=0"):
        PreemptionCheckpointer(None, 0)


@pytest.mark.parametrize("twice", ["the same", "two"])
def test_registered_twice_it_gives_signals_back(tmp_path: Path, twice: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer, checkpointer = build(tmp_path, send(signal.SIGTERM, at=1))
    trainer.register_hooks([trainer._hooks[-1] if twice == "the same" else PreemptionCheckpointer(checkpointer)])
    try:
        assert exit_code(trainer, 0, 6) == 75
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)
    assert torch.load(tmp_path / "model_preempted.pth", weights_only=True)["iteration"] == 1
