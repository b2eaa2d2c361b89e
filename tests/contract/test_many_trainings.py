"""Trainings one after the other and beside each other in one process leave nothing behind and do not mix."""

from __future__ import annotations

import gc
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.engine import DefaultTrainer, SimpleTrainer, default_setup, get_cfg, hooks
from drivetrain.events import EventStorage, get_event_storage, has_event_storage
from drivetrain.testing import TinyLoader, TinyModel

LENGTH = 6


def simple(seed: int, **options: Any) -> SimpleTrainer:
    """A trainer that draws no random number while it trains, so that others may draw some."""
    torch.manual_seed(seed)
    model = TinyModel(dropout=0.0)
    return SimpleTrainer(model, TinyLoader(seed=seed), torch.optim.SGD(model.parameters(), 0.1, 0.9), **options)


def losses(trainer: SimpleTrainer) -> list[tuple[float, int]]:
    return trainer.storage.history("total_loss").values()


@pytest.fixture
def alone() -> list[list[tuple[float, int]]]:
    """The losses of trainings 0, 1 and 2, each by itself."""
    trainers = [simple(seed) for seed in range(3)]
    for trainer in trainers:
        trainer.train(0, LENGTH)
    assert len({str(losses(trainer)) for trainer in trainers}) == 3
    return [losses(trainer) for trainer in trainers]


def test_stepped_by_hand_in_turn(alone: list[Any]) -> None:
    trainers = [simple(seed) for seed in range(3)]
    marks = [hooks.CallbackHook(after_step=lambda t: get_event_storage().put_scalar("mark", t.iter)) for _ in trainers]
    for trainer, mark in zip(trainers, marks, strict=True):
        trainer.register_hooks([mark])
        trainer.max_iter, trainer.storage = LENGTH, EventStorage(0)
    for iteration in range(LENGTH):
        for trainer in trainers:
            with trainer.storage:
                trainer.iter = iteration
                trainer.before_step()
                trainer.run_step()
                trainer.after_step()
    assert not has_event_storage()
    assert [losses(trainer) for trainer in trainers] == alone
    expected = [(float(i), i) for i in range(LENGTH)]
    assert all(trainer.storage.history("mark").values() == expected for trainer in trainers)


def test_in_threads_at_once(alone: list[Any]) -> None:
    trainers = [simple(seed) for seed in range(3)]
    meet = threading.Barrier(3, timeout=60)
    failed: list[BaseException] = []

    def train(trainer: SimpleTrainer) -> None:
        try:
            trainer.train(0, LENGTH)
            assert not has_event_storage()
        except BaseException as error:
            failed.append(error)
            meet.abort()

    def together(t: Any) -> None:
        assert get_event_storage() is t.storage
        meet.wait()  # every step of one falls between two of the others

    for trainer in trainers:
        trainer.register_hooks([hooks.CallbackHook(before_step=together)])
    threads = [threading.Thread(target=train, args=(trainer,)) for trainer in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [losses(trainer) for trainer in trainers] == alone
    assert not has_event_storage()


def test_one_within_another(alone: list[Any]) -> None:
    """A hook that trains something itself, such as a probe on the features."""
    outer, inner = simple(0), simple(1)
    outer.register_hooks([hooks.CallbackHook(after_step=lambda t: inner.train(0, LENGTH) if t.iter == 2 else None)])
    outer.train(0, LENGTH)
    assert [losses(outer), losses(inner)] == alone[:2]


class Trainer(DefaultTrainer):
    @classmethod
    def test(cls, cfg: Any, model: Any, evaluators: Any = None) -> Any:
        return {"bbox": {"AP": 1.0}}


def default(folder: Path) -> None:
    """One whole job, as a script does it."""
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.CHECKPOINT_KEEP, cfg.SEED = LENGTH, 3, 1, 1
    cfg.SOLVER.EMA.ENABLED, cfg.SOLVER.BEST_METRIC, cfg.TEST.EVAL_PERIOD = True, "bbox/AP", 2
    default_setup(cfg, {})
    trainer = Trainer(cfg, model=TinyModel(), train_loader=TinyLoader())
    trainer.register_hooks([hooks.Watchdog(60), hooks.PreemptionCheckpointer(trainer.checkpointer)])
    trainer.resume_or_load(resume=False)
    trainer.train()


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def standing() -> tuple[Any, ...]:
    """What must not grow: handlers, threads, open files, trainers."""
    gc.collect()
    logger = logging.getLogger("drivetrain")
    kinds = (SimpleTrainer, EventStorage, torch.nn.Module)
    alive = sum(issubclass(type(thing), kinds) for thing in gc.get_objects())
    return len(logger.handlers), set(threading.enumerate()), len(os.listdir("/proc/self/fd")), alive


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files and memory by /proc")
def test_twenty_jobs_leave_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):  # libraries load
        default(tmp_path / "first")
    before, memory = standing(), resident()
    for number in range(20):
        default(tmp_path / str(number))
    assert standing() == before
    assert resident() - memory < 8 * 2**20
    assert not has_event_storage() and not torch.distributed.is_initialized()

    # Each log has the lines of its own job, each once; so has the console.
    assert capsys.readouterr().out.count("Starting training from iteration 0\n") == 23
    logs = [(tmp_path / str(number) / "log.txt").read_text() for number in range(20)]
    assert all(log.count("Starting training from iteration 0\n") == 1 for log in logs)
    assert all(f"Full config saved to {tmp_path / str(number)}/config" in logs[number] for number in range(20))
