from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer
from drivetrain.engine.hooks import CallbackHook, PeriodicCheckpointer
from drivetrain.testing import tiny_trainer


def trainer_with(folder: Path, *later: Any, **options: Any) -> tuple[Any, PeriodicCheckpointer]:
    trainer = tiny_trainer()
    hook = PeriodicCheckpointer(Checkpointer(trainer.model, str(folder), trainer=trainer), **options)
    trainer.register_hooks([hook, *later])
    return trainer, hook


def names(folder: Path) -> list[str]:
    return sorted(p.stem for p in folder.glob("*.pth"))


def iteration(folder: Path, name: str) -> tuple[int, int]:
    """The iteration beside the states, and the one in the trainer's state."""
    data = torch.load(folder / f"{name}.pth", weights_only=True)
    return data["iteration"], data["trainer"]["iteration"]


def test_each_period_and_the_final_one(tmp_path: Path) -> None:
    trainer, hook = trainer_with(tmp_path, period=2)
    trainer.train(0, 5)
    assert hook.max_iter == 5
    assert names(tmp_path) == ["model_0000001", "model_0000003", "model_final"]
    assert iteration(tmp_path, "model_0000003") == (3, 3)
    assert iteration(tmp_path, "model_final") == (4, 4)
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(value, final[name]) for name, value in trainer.model.state_dict().items())


def test_it_is_there_when_later_hooks_of_the_last_iteration_run(tmp_path: Path) -> None:
    seen: list[bool] = []
    look = CallbackHook(after_step=lambda t: seen.append((tmp_path / "model_final.pth").exists()))
    trainer, _ = trainer_with(tmp_path, look, period=0)
    trainer.train(0, 3)
    assert seen == [False, False, True]


def test_a_training_that_a_later_hook_ends_has_its_final_checkpoint(tmp_path: Path) -> None:
    stop = CallbackHook(after_step=lambda t: t.request_stop("test") if t.iter == 2 else None)
    trainer, _ = trainer_with(tmp_path, stop, period=100, max_to_keep=1)
    trainer.train(0, 50)
    assert names(tmp_path) == ["model_final"]
    assert iteration(tmp_path, "model_final") == (2, 2)


def test_a_training_that_another_one_lengthens_has_its_final_checkpoint_at_the_end_alone(tmp_path: Path) -> None:
    def lengthen(t: Any) -> None:
        if t.iter == 1:
            t.max_iter = 4

    trainer = tiny_trainer()
    hook = PeriodicCheckpointer(Checkpointer(trainer.model, str(tmp_path), trainer=trainer), 0)
    seen: list[list[str]] = []
    look = CallbackHook(after_step=lambda t: seen.append(names(tmp_path)))
    trainer.register_hooks([CallbackHook(after_step=lengthen), hook, look])
    trainer.train(0, 2)
    assert seen == [[], [], [], ["model_final"]]
    assert iteration(tmp_path, "model_final") == (3, 3)


def test_a_failed_training_has_none(tmp_path: Path) -> None:
    def fail(t: Any) -> None:
        if t.iter == 2:
            raise ValueError

    trainer, _ = trainer_with(tmp_path, CallbackHook(after_step=fail), period=2)
    with pytest.raises(ValueError):
        trainer.train(0, 3 + 2)
    assert names(tmp_path) == ["model_0000001"]


def test_a_resume_with_nothing_left_writes_a_missing_final_checkpoint(tmp_path: Path) -> None:
    trainer, _ = trainer_with(tmp_path, period=3)
    trainer.train(0, 3)
    (tmp_path / "model_final.pth").unlink()  # killed between the two saves
    resumed, hook = trainer_with(tmp_path, period=3)
    hook.checkpointer.load(str(tmp_path / "model_0000002.pth"))
    resumed.train(3, 3)
    assert iteration(tmp_path, "model_final") == (2, 2)
    modified = (tmp_path / "model_final.pth").stat().st_mtime_ns
    resumed.train(3, 3)
    assert (tmp_path / "model_final.pth").stat().st_mtime_ns == modified


def test_no_checkpoint_of_an_untrained_model(tmp_path: Path) -> None:
    trainer, _ = trainer_with(tmp_path, period=1)
    trainer.train(0, 0)
    assert names(tmp_path) == []
