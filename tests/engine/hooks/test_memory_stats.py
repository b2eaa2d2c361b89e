from __future__ import annotations

import logging

import pytest
import torch

from drivetrain.engine.hooks import TorchMemoryStats
from drivetrain.engine.train_loop import TrainerBase
from drivetrain.errors import TrainingError


class Loop(TrainerBase):
    def run_step(self) -> None:
        pass


@pytest.fixture
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    resets: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for index, name in enumerate(
        ("max_memory_reserved", "max_memory_allocated", "memory_reserved", "memory_allocated")
    ):
        monkeypatch.setattr(torch.cuda, name, lambda mb=40 - index: mb * 2**20)
    monkeypatch.setattr(torch.cuda, "memory_summary", lambda: "THE SUMMARY")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: resets.append("reset"))
    return resets


def test_lines_each_period_up_to_max_runs_then_the_summary(
    pretended_cuda: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Loop()
    trainer.register_hooks([TorchMemoryStats(period=2, max_runs=3)])
    with caplog.at_level(logging.INFO):
        trainer.train(0, 11)
    lines = [r.getMessage() for r in caplog.records if "memory_stats" in r.name]
    numbers = "max_reserved_mem: 40MB  max_allocated_mem: 39MB  reserved_mem: 38MB  allocated_mem: 37MB"
    assert lines == [f"iter: {i}  {numbers}" for i in (1, 3, 5)] + ["\nTHE SUMMARY"]
    assert pretended_cuda == ["reset"] * 3


def test_the_last_iteration_has_a_line(pretended_cuda: list[str], caplog: pytest.LogCaptureFixture) -> None:
    trainer = Loop()
    trainer.register_hooks([TorchMemoryStats(period=100)])
    with caplog.at_level(logging.INFO):
        trainer.train(0, 3)
    assert [r.getMessage()[:8] for r in caplog.records if "memory_stats" in r.name] == ["iter: 2 "]


def test_nothing_without_cuda(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    trainer = Loop()
    trainer.register_hooks([TorchMemoryStats(period=1)])
    with caplog.at_level(logging.INFO):
        trainer.train(0, 3)
    assert not [r for r in caplog.records if "memory_stats" in r.name]


def test_a_bad_period() -> None:
    with pytest.raises(TrainingError, match=r"period of TorchMemoryStats is 0"):
        TorchMemoryStats(period=0)
