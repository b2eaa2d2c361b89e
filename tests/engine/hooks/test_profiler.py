from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from drivetrain.engine.hooks import AutogradProfiler, CallbackHook, TorchProfiler
from drivetrain.testing import tiny_trainer


def events_of(path: Path) -> set[str]:
    return {event.get("name", "") for event in json.loads(path.read_text())["traceEvents"]}


def test_autograd_profiler_writes_one_trace_for_each_chosen_iteration(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    trainer.register_hooks([AutogradProfiler(lambda t: t.iter in (1, 3), str(tmp_path), use_cuda=False)])
    trainer.train(0, 5)
    traces = sorted((tmp_path / "log").iterdir())
    assert [p.name for p in traces] == ["profiler-trace-iter1.json", "profiler-trace-iter3.json"]
    assert any("conv2d" in name for name in events_of(traces[0]))  # what happened in the step


def test_torch_profiler_writes_for_tensorboard(tmp_path: Path) -> None:
    trainer = tiny_trainer()
    activities = [torch.profiler.ProfilerActivity.CPU]
    trainer.register_hooks([TorchProfiler(lambda t: t.iter == 1, str(tmp_path), activities=activities)])
    trainer.train(0, 3)
    (folder,) = (tmp_path / "log").iterdir()
    assert folder.name == "profiler-tensorboard-iter1"
    (trace,) = folder.iterdir()
    assert trace.name.startswith("worker0.") and trace.name.endswith(".pt.trace.json")
    assert any("conv2d" in name for name in events_of(trace))


def test_a_trace_that_cannot_be_written_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    trainer = tiny_trainer()
    trainer.register_hooks([AutogradProfiler(lambda t: t.iter == 0, str(tmp_path), use_cuda=False)])
    trainer.train(0, 2)
    assert trainer.iter == 2
    assert "profile of iteration 0 is lost" in caplog.text


def test_a_failing_step_leaves_no_profiler_running(tmp_path: Path) -> None:
    trainer = tiny_trainer()

    def fail(_: object) -> None:
        raise ValueError

    hook = AutogradProfiler(lambda t: True, str(tmp_path), use_cuda=False)
    trainer.register_hooks([CallbackHook(after_backward=fail), hook])
    with pytest.raises(ValueError):
        trainer.train(0, 2)
    assert hook._profiler is None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):  # no other one is in the way
        torch.zeros(1)
