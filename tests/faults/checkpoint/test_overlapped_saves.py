"""Whole trainings whose checkpoints are copied beside their steps, as slowly as can be."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.checkpoint import Checkpointer, overlap, snapshot
from drivetrain.engine.hooks import EMA, CallbackHook, EvalHook, PeriodicCheckpointer
from drivetrain.testing import tiny_trainer

from .killed_saves import digest

LENGTH = 12


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Copies beside the training take longer than a step, and are made however little there is to copy."""
    copies: list[int] = []

    def copyto(target: Any, source: Any) -> None:
        time.sleep(0.001)
        np.copyto(target, source)
        copies.append(target.nbytes)

    monkeypatch.setattr(snapshot, "np", SimpleNamespace(copyto=copyto))
    monkeypatch.setattr(overlap, "_SMALL", 1)
    monkeypatch.setattr(overlap, "_WORTH_IT", 1)
    return copies


def evaluate(trainer: Any, average: EMA) -> dict[str, float]:
    """A number that the averaged weights have."""
    with average.applied():
        return {"AP": sum(float(p.detach().square().sum()) for p in trainer.model.parameters())}


def run(folder: Path | None) -> tuple[Any, list[str]]:
    """Train, saving after every iteration; the digest of the state after each."""
    trainer = tiny_trainer()
    digests: list[str] = []
    ema = EMA(0.9)
    hooks: list[Any] = [ema, CallbackHook(after_step=lambda t: digests.append(digest(t)))]
    if folder is not None:
        checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
        hooks.append(PeriodicCheckpointer(checkpointer, 1))
        hooks.append(EvalHook(2, lambda: evaluate(trainer, ema)))
    trainer.register_hooks(hooks)
    trainer.train(0, LENGTH)
    return trainer, digests


def check(folder: Path, digests: list[str]) -> None:
    """Each checkpoint holds the state after its iteration."""
    for path in sorted(folder.glob("model_0*.pth")):
        trainer = tiny_trainer()
        trainer.register_hooks([EMA(0.9)])
        Checkpointer(trainer.model, trainer=trainer).load(str(path))
        assert digest(trainer) == digests[int(path.stem[-7:])], path.name


def test_evaluating_the_average_between_a_save_and_the_next_step(
    tmp_path: Path, slow: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    saved, digests = run(tmp_path)
    plain, expected = run(None)
    assert digests == expected  # saving changes nothing
    check(tmp_path, digests)
    lost = caplog.text.count("CHECKPOINT FAILED")
    assert lost == 0 and len(list(tmp_path.glob("model_0*.pth"))) == LENGTH - lost
    assert slow  # some were copied beside a step
    assert all(torch.equal(a, b) for a, b in zip(saved.model.parameters(), plain.model.parameters(), strict=True))
