from __future__ import annotations

import errno
import logging
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer, FileLayer
from drivetrain.engine.hooks import BestCheckpointer, EvalHook, PeriodicCheckpointer
from drivetrain.errors import OutputError
from drivetrain.testing import tiny_trainer


def build(folder: Path, values: list[float], **options: Any) -> tuple[Any, BestCheckpointer, Checkpointer]:
    """A trainer that evaluates after each iteration, with the given results."""
    trainer = tiny_trainer()
    left = iter(values)
    checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
    best = BestCheckpointer(999, checkpointer, "bbox/AP", **options)
    evaluation = EvalHook(1, lambda: {"bbox": {"AP": next(left)}})
    trainer.register_hooks([PeriodicCheckpointer(checkpointer, 1), evaluation, best])
    return trainer, best, checkpointer


def best_iteration(folder: Path, name: str = "model_best") -> int:
    return int(torch.load(folder / f"{name}.pth", weights_only=True)["trainer"]["iteration"])


def test_the_best_is_kept_and_a_resume_does_not_start_from_it(tmp_path: Path) -> None:
    trainer, best, checkpointer = build(tmp_path, [10, 30, math.nan, 20, math.inf])
    trainer.train(0, 5)
    assert (best.best_metric, best.best_iter) == (30.0, 1)
    assert best_iteration(tmp_path) == 1
    data = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert data["metric"] == {"bbox/AP": 30.0} and data["iteration"] == 1
    assert (tmp_path / "last_checkpoint").read_text().strip() == "model_final.pth"
    entry = checkpointer.folder.manifest().find("model_best.pth")[-1]
    assert entry.roles == ("best",) and entry.metric == {"bbox/AP": 30.0}


def test_the_last_evaluation_counts_and_ties_do_not(tmp_path: Path) -> None:
    trainer, best, _ = build(tmp_path, [10, 10, 11])
    trainer.train(0, 3)
    assert best.best_iter == 2 and best_iteration(tmp_path) == 2


def test_smaller_is_better_and_another_name(tmp_path: Path) -> None:
    trainer, best, _ = build(tmp_path, [3, 4, 1], mode="min", file_prefix="lowest")
    trainer.train(0, 3)
    assert best.best_metric == 1.0 and best_iteration(tmp_path, "lowest") == 2
    assert (tmp_path / "last_checkpoint").read_text().strip() == "model_final.pth"


def test_the_best_value_survives_a_resume(tmp_path: Path) -> None:
    trainer, _, _ = build(tmp_path, [30, 10, 10])
    trainer.train(0, 3)
    resumed, best, checkpointer = build(tmp_path, [20, 25, 26, 27])  # the last iteration is evaluated again: 20
    checkpointer.resume_or_load("")
    assert best.best_metric == 30.0
    resumed.train(3, 6)
    assert best_iteration(tmp_path) == 0


def test_an_evaluation_that_was_cut_off_is_made_up_for(tmp_path: Path) -> None:
    """Checkpoints are written before the evaluation of their iteration: without it, its result would be forgotten."""
    trainer, _, _ = build(tmp_path, [10, 90])

    def killed(results: object) -> None:
        if best.best_metric == 90:
            raise KeyboardInterrupt

    trainer2, best, _ = build(tmp_path, [10, 90])
    del trainer
    after = best.after_evaluation

    def then_killed(results: Any) -> None:
        after(results)
        killed(results)

    best.after_evaluation = then_killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer2.train(0, 10)
    resumed, best, checkpointer = build(tmp_path, [90, 50])
    checkpointer.resume_or_load("")
    assert best.best_metric == 10.0  # what the checkpoint knew
    resumed.train(2, 3)
    assert (best.best_metric, best.best_iter) == (90.0, 1)


def test_results_without_the_metric_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = tiny_trainer()
    checkpointer = Checkpointer(trainer.model, str(tmp_path))
    best = BestCheckpointer(1, checkpointer, "bbox/AP75x")
    trainer.register_hooks([EvalHook(1, lambda: {"bbox": {"AP": 1.0, "AP75": 2.0}}), best])
    with caplog.at_level(logging.WARNING):
        trainer.train(0, 3)
    assert caplog.text.count("did you mean 'bbox/AP75'") == 1
    assert not (tmp_path / "model_best.pth").exists()


def test_a_best_model_that_cannot_be_saved_is_not_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer, best, checkpointer = build(tmp_path, [50, 40, 30])
    save, failures = checkpointer.save, [OutputError("disk full")]

    def failing(name: str, **extra: Any) -> None:
        if name == "model_best" and failures:
            raise failures.pop()
        save(name, **extra)

    checkpointer.save = failing  # type: ignore[method-assign]
    trainer.train(0, 3)
    assert "disk full" in caplog.text
    assert (best.best_metric, best.best_iter) == (40.0, 1) and best_iteration(tmp_path) == 1


def test_a_best_model_whose_write_fails_in_the_background_is_not_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class FullOnce(FileLayer):
        failures = 1

        def create(self, path: Path) -> Any:
            if "model_best" in path.name and self.failures:
                self.failures -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().create(path)

    trainer, best, checkpointer = build(tmp_path, [50, 40, 30])
    checkpointer.layer = FullOnce()
    trainer.train(0, 3)
    assert "CHECKPOINT FAILED for the best model so far (bbox/AP=50), training goes on" in caplog.text
    assert (best.best_metric, best.best_iter) == (40.0, 1) and best_iteration(tmp_path) == 1
    saved = torch.load(tmp_path / "model_0000001.pth", weights_only=True)["trainer"]["hooks"]["BestCheckpointer"]
    assert saved["best"] is None  # written after the failure, before the next evaluation


def test_the_next_result_is_compared_when_it_is_known_whether_the_one_before_was_saved(tmp_path: Path) -> None:
    class FailsLate(FileLayer):
        failures = 1

        def create(self, path: Path) -> Any:
            if self.failures:
                self.failures -= 1
                time.sleep(0.5)  # the next evaluation comes before
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().create(path)

    trainer, left = tiny_trainer(), iter([50.0, 40.0, 30.0])
    checkpointer = Checkpointer(trainer.model, str(tmp_path), trainer=trainer)
    checkpointer.layer = FailsLate()
    best = BestCheckpointer(1, checkpointer, "AP")
    trainer.register_hooks([EvalHook(1, lambda: {"AP": next(left)}), best])
    trainer.train(0, 3)
    assert (best.best_metric, best.best_iter) == (40.0, 1) and best_iteration(tmp_path) == 1


def test_it_is_written_when_training_returns(tmp_path: Path) -> None:
    """Even if its ``after_train`` runs before that of the evaluation."""
    trainer = tiny_trainer()
    checkpointer = Checkpointer(trainer.model, str(tmp_path))
    best = BestCheckpointer(1, checkpointer, "AP")
    trainer.register_hooks([best, EvalHook(0, lambda: {"AP": 1.0})])
    slow = FileLayer()
    create = slow.create
    slow.create = lambda path: (time.sleep(0.05), create(path))[1]  # type: ignore[method-assign]
    checkpointer.layer = slow
    trainer.train(0, 2)
    assert checkpointer.folder.manifest().find("model_best.pth")[-1].roles == ("best",)


def test_the_state_of_another_metric_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, best, _ = build(tmp_path, [])
    best.load_state_dict({"metric": "segm/AP", "best": 70.0, "iteration": 3})
    assert best.best_metric is None and "segm/AP" in caplog.text
