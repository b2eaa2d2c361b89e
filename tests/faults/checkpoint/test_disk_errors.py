"""A full or failing disk at each operation of a checkpoint: the training goes on, nothing half-written is left."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from drivetrain.checkpoint import Checkpointer, FileLayer
from drivetrain.engine.hooks import BestCheckpointer, CallbackHook, EvalHook, PeriodicCheckpointer
from drivetrain.testing import tiny_trainer


def check_folder(make_run: Any, folder: Path, allowed: set[int]) -> None:
    """All files under final names are whole, none is temporary, and a resume finds one of the allowed states."""
    run = make_run(folder)
    assert not [p.name for p in folder.iterdir() if p.name.endswith(".tmp")]
    for name in run.checkpointer.folder.files():
        run.checkpointer.folder.verify(name)
    assert run.checkpointer.resume_or_load("")["iteration"] == run.whole()
    assert run.whole() in allowed


@pytest.mark.parametrize(("code", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)])
@pytest.mark.parametrize("act", ["step", "best"])
def test_an_error_at_every_operation(tmp_path, make_run, failing, saved_run, act, code, lasting, caplog):
    source = saved_run("source")
    probe = failing(at=-1)
    shutil.copytree(source, tmp_path / "probe")
    getattr(make_run(tmp_path / "probe", probe), act)(4)
    kinds: set[str] = set()
    for k in range(probe.count):
        folder = tmp_path / f"{k}"
        shutil.copytree(source, folder)
        layer = failing(k, code, lasting)
        run = make_run(folder, layer)
        caplog.clear()
        getattr(run, act)(4)  # ends no training
        kinds.update(layer.failed[:1])
        alarms = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        assert len(alarms) == 1 and "CHECKPOINT FAILED" in alarms[0] and "injected" in alarms[0], (k, alarms)
        check_folder(make_run, folder, {3, 4})
        assert {"model_0000003.pth", "model_best.pth"} <= set(run.checkpointer.folder.files())
        if k % 5 == 0:  # somebody made room
            run.checkpointer.layer = FileLayer()
            run.step(5)
            check_folder(make_run, folder, {5})
        shutil.rmtree(folder)
    assert kinds == {"create", "write", "sync", "replace", "sync_folder"} | ({"remove"} if act == "step" else set())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_training_on_a_disk_that_fails_again_and_again(tmp_path, code, caplog):
    """Every 29th operation fails, in saves of a trainer with all its state: as many as fail are in the log."""

    class Failing(FileLayer):
        count, enabled, failed = 0, True, 0

        def _step(self) -> None:
            self.count += 1
            if self.enabled and self.count % 29 == 0:
                self.failed += 1
                raise OSError(code, "injected")

        def write(self, handle: Any, data: Any) -> None:
            self._step()
            super().write(handle, data)

        def replace(self, source: Path, target: Path) -> None:
            self._step()
            super().replace(source, target)

        def mend(self) -> None:
            self.enabled = False

    def train(folder: Path, layer: Failing) -> tuple[Any, Checkpointer]:
        trainer = tiny_trainer()
        checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
        checkpointer.layer = layer
        values = iter(range(100))
        best = BestCheckpointer(2, checkpointer, "AP")
        evaluation = EvalHook(2, lambda: {"AP": float(next(values))}, eval_after_train=False)
        # A final checkpoint that cannot be written is an error, and has a test of its own.
        mend = CallbackHook(after_step=lambda t: layer.mend() if t.iter == 11 else None)
        trainer.register_hooks([mend, PeriodicCheckpointer(checkpointer, 1, max_to_keep=2), evaluation, best])
        trainer.train(0, 12)
        return trainer, checkpointer

    failing = Failing()
    _, checkpointer = train(tmp_path / "run", failing)
    alarms = [r for r in caplog.records if "CHECKPOINT FAILED" in r.getMessage()]
    assert len(alarms) == failing.failed > 5
    folder = checkpointer.folder
    assert not list(folder.path.glob(".*.tmp"))
    for name in folder.files():
        folder.verify(name)
    fresh = tiny_trainer()
    assert Checkpointer(fresh.model, str(folder.path), trainer=fresh).resume_or_load("")["iteration"] == 11
