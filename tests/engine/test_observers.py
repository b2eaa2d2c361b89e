"""Watching never changes training: every hook and every writer that only watches leaves the weights bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine import hooks
from drivetrain.engine.hook_base import HookBase
from drivetrain.events import writers
from drivetrain.runtime.seeding import seed_all_rng
from drivetrain.testing import assert_same_training, tiny_loader, tiny_trainer

# These change what is trained, or how; that is what they are for.
CHANGES_TRAINING = {"HookBase", "LRScheduler", "PreciseBN"}

Make = Callable[[Any, Path], HookBase]


def evaluate(trainer: Any) -> dict[str, Any]:
    """An evaluation that draws random numbers, changes modes and runs the model."""
    model = trainer.model.eval()
    with torch.no_grad():
        outputs = model(tiny_loader(batches=1, seed=9).batch(0))
    return {"bbox": {"AP": float(outputs[0]["instances"].scores.mean() + torch.rand(()))}}


def checkpointer(trainer: Any, folder: Path) -> Checkpointer:
    return Checkpointer(trainer.model, str(folder), trainer=trainer)


HOOKS: dict[str, Make] = {
    "AutogradProfiler": lambda t, d: hooks.AutogradProfiler(lambda t: t.iter in (2, 3), str(d), use_cuda=False),
    "BestCheckpointer": lambda t, d: hooks.BestCheckpointer(2, checkpointer(t, d), "bbox/AP"),
    "CallbackHook": lambda t, d: hooks.CallbackHook(after_step=lambda trainer: trainer.storage.latest()),
    "EMA": lambda t, d: hooks.EMA(0.9),
    "EarlyStopping": lambda t, d: hooks.EarlyStopping("bbox/AP", patience=100),
    "EvalHook": lambda t, d: hooks.EvalHook(2, lambda: evaluate(t)),
    "IterationTimer": lambda t, d: hooks.IterationTimer(),
    "PeriodicCheckpointer": lambda t, d: hooks.PeriodicCheckpointer(checkpointer(t, d), 2, max_to_keep=1),
    "PeriodicWriter": lambda t, d: hooks.PeriodicWriter([writers.JSONWriter(str(d / "metrics.json"))], period=1),
    "PreemptionCheckpointer": lambda t, d: hooks.PreemptionCheckpointer(checkpointer(t, d)),
    "SamplePredictions": lambda t, d: hooks.SamplePredictions(2),
    "TorchMemoryStats": lambda t, d: hooks.TorchMemoryStats(period=1),
    "TorchProfiler": lambda t, d: hooks.TorchProfiler(lambda t: t.iter in (2, 3), str(d), save_tensorboard=False),
    "ValidationLoss": lambda t, d: hooks.ValidationLoss(tiny_loader(batches=2, seed=5), 2),
    "Watchdog": lambda t, d: hooks.Watchdog(timeout=600),
}
WRITERS: dict[str, Callable[[Path], Any]] = {
    "BackgroundWriter": lambda d: writers.BackgroundWriter(writers.TensorboardXWriter(str(d)), pictures=True),
    "CommonMetricPrinter": lambda d: writers.CommonMetricPrinter(6),
    "JSONWriter": lambda d: writers.JSONWriter(str(d / "metrics.json")),
    "ProgressBar": lambda d: writers.ProgressBar(6),
    "TensorboardXWriter": lambda d: writers.TensorboardXWriter(str(d)),
}


def watched(folder: Path, *makes: Make) -> Callable[[], Any]:
    """A builder of trainers with the hooks, beside an evaluation that gives them something to hear."""

    def build() -> Any:
        trainer = tiny_trainer()
        trainer.register_hooks([make(trainer, folder) for make in makes])
        return trainer

    return build


def test_every_hook_and_writer_is_in_the_tables() -> None:
    assert set(HOOKS) == set(hooks.__all__) - CHANGES_TRAINING
    bases = {"EventWriter", "FailSafeWriter", "FreshScalars"}
    assert set(WRITERS) == set(writers.__all__) - bases


@pytest.mark.parametrize("name", HOOKS)
def test_one_hook(tmp_path: Path, name: str) -> None:
    makes = [HOOKS[name], HOOKS["EvalHook"]] if name != "EvalHook" else [HOOKS[name]]
    assert_same_training(tiny_trainer, watched(tmp_path, *makes), max_iter=6)


@pytest.mark.parametrize("name", WRITERS)
def test_one_writer(tmp_path: Path, name: str) -> None:
    make: Make = lambda t, d: hooks.PeriodicWriter([WRITERS[name](d)], period=2)  # noqa: E731
    assert_same_training(tiny_trainer, watched(tmp_path, make), max_iter=6)


def test_all_of_them_together(tmp_path: Path) -> None:
    # Two profilers cannot run at once in one process.
    together = [make for name, make in HOOKS.items() if name != "AutogradProfiler"]
    every_writer: Make = lambda t, d: hooks.PeriodicWriter([w(d) for w in WRITERS.values()], period=2)  # noqa: E731
    assert_same_training(tiny_trainer, watched(tmp_path, *together, every_writer), max_iter=6)


def test_the_comparison_sees_a_hook_that_draws_one_number(tmp_path: Path) -> None:
    class Draws(HookBase):
        def after_step(self) -> None:
            if self.trainer.iter == 3:
                torch.rand(())

    with pytest.raises(AssertionError, match="differs from training 1"):
        assert_same_training(tiny_trainer, watched(tmp_path, lambda t, d: Draws()), max_iter=6)
    seed_all_rng(0)
