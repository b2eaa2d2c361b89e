from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.checkpoint import Checkpointer, FileLayer
from drivetrain.engine.hooks import EMA, CallbackHook, PeriodicCheckpointer
from drivetrain.testing import assert_same_training, tiny_trainer


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


def test_the_steps_go_on_while_it_writes_and_the_end_waits_for_it(tmp_path: Path) -> None:
    gate = threading.Event()

    class Gated(FileLayer):
        def create(self, path: Path) -> Any:
            assert gate.wait(30)
            return super().create(path)

    def look(t: Any) -> None:
        seen.append(names(tmp_path))
        if t.iter == 3:
            gate.set()
            raise ValueError("in the middle of a save")

    seen: list[list[str]] = []
    trainer, hook = trainer_with(tmp_path, CallbackHook(after_step=look), period=3)
    hook.checkpointer.layer = Gated()
    with pytest.raises(ValueError, match="in the middle of a save"):
        trainer.train(0, 100)
    assert seen == [[], [], [], []]
    assert names(tmp_path) == ["model_0000002"]
    assert iteration(tmp_path, "model_0000002") == (2, 2)


def test_a_save_that_fails_hides_no_error_and_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(FileLayer):
        def write(self, handle: Any, data: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    def fail(t: Any) -> None:
        if t.iter == 5:
            raise ValueError("the error to see")

    trainer, hook = trainer_with(tmp_path, CallbackHook(after_step=fail), period=2)
    hook.checkpointer.layer = Full()
    with pytest.raises(ValueError, match="the error to see"):
        trainer.train(0, 100)
    alarms = [r.getMessage() for r in caplog.records if "CHECKPOINT FAILED" in r.getMessage()]
    assert [a.split(", training")[0] for a in alarms] == [f"CHECKPOINT FAILED after iteration {i}" for i in (1, 3, 5)]
    assert all("No space left on device" in a for a in alarms)
    assert names(tmp_path) == []


def test_saving_leaves_the_training_as_it_is(tmp_path: Path) -> None:
    folders = iter("ab")

    def saving() -> Any:
        trainer = tiny_trainer()
        folder = tmp_path / next(folders)
        checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
        trainer.register_hooks([EMA(0.9), PeriodicCheckpointer(checkpointer, 1, max_to_keep=2)])
        return trainer

    assert_same_training(tiny_trainer, saving, max_iter=12)
    # and what was written beside the steps is what a save between them would have written
    trainer = saving()
    for start in range(12):
        trainer.train(start, start + 1)
    for name in ("model_0000010", "model_0000011", "model_final"):
        one, other = (torch.load(tmp_path / f / f"{name}.pth", weights_only=True) for f in "ab")
        for key in ("optimizer", "rng", "hooks"):
            compare(one["trainer"][key], other["trainer"][key], f"{name} {key}")
        compare(one["model"], other["model"], name)


def compare(one: Any, other: Any, place: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            compare(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            compare(a, b, f"{place}[{index}]")
    else:
        assert one == other, place


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


def test_a_resume_with_nothing_left_replaces_the_final_checkpoint_of_a_shorter_training(tmp_path: Path) -> None:
    """A finished training was extended, and killed between its last periodic save and the final one."""

    class Killed(BaseException):
        pass

    def kill(name: str, **_: Any) -> None:
        raise Killed(name)

    trainer, _ = trainer_with(tmp_path, period=3)
    trainer.train(0, 3)
    extended, hook = trainer_with(tmp_path, period=3)
    hook.checkpointer.resume_or_load("")
    hook.save = kill  # type: ignore[method-assign]
    with pytest.raises(Killed, match="model_final"):
        extended.train(3, 6)
    assert (iteration(tmp_path, "model_0000005"), iteration(tmp_path, "model_final")) == ((5, 5), (2, 2))
    resumed, hook = trainer_with(tmp_path, period=3)
    assert hook.checkpointer.resume_or_load("")["iteration"] == 5
    resumed.train(6, 6)
    assert iteration(tmp_path, "model_final") == (5, 5)
    last, final = (
        torch.load(tmp_path / f"{n}.pth", weights_only=True)["model"] for n in ("model_0000005", "model_final")
    )
    compare(last, final, "model")
    modified = (tmp_path / "model_final.pth").stat().st_mtime_ns
    resumed.train(6, 6)
    assert (tmp_path / "model_final.pth").stat().st_mtime_ns == modified


def test_no_checkpoint_of_an_untrained_model(tmp_path: Path) -> None:
    trainer, _ = trainer_with(tmp_path, period=1)
    trainer.train(0, 0)
    assert names(tmp_path) == []
