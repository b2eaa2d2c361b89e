"""Means over ranks: one collective per period, own values until then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from drivetrain.engine.train_loop import SimpleTrainer
from drivetrain.errors import NonFiniteLossError, TrainingError
from drivetrain.events import EventStorage
from drivetrain.events.reduction import RankMetrics


def check_means(rank: int) -> None:
    storage = EventStorage()
    metrics = RankMetrics(storage)
    for iteration in range(5):
        losses = {"a": torch.tensor(float(iteration + rank)), "b": torch.tensor(10.0 * rank)}
        metrics.add(iteration, losses, data_time=0.1 + rank)
    assert storage.latest()["a"] == (4.0 + rank, 4), "own values until the exchange"
    assert storage.new_since({})[0] == {}
    calls = []
    original = dist.all_reduce
    dist.all_reduce = lambda *args, **kwargs: (calls.append(1), original(*args, **kwargs))[1]
    try:
        assert metrics.reduce([1.0, float(rank)]) == [2.0, 1.0]
    finally:
        dist.all_reduce = original
    assert len(calls) == 1
    assert storage.history("a").values() == [(i + 0.5, i) for i in range(5)]
    assert storage.history("b").values() == [(5.0, i) for i in range(5)]
    assert storage.history("total_loss").values() == [(i + 5.5, i) for i in range(5)]
    assert [round(v, 5) for v, _ in storage.history("data_time").values()] == [1.1] * 5
    assert metrics.reduce([0.0, 0.0]) == [0.0, 0.0], "nothing since the last time"


def check_different_names(rank: int) -> None:
    metrics = RankMetrics(EventStorage())
    metrics.add(0, {"a" if rank else "b": torch.tensor(1.0)}, 0.0)
    with pytest.raises(TrainingError, match="every rank needs the same losses"):
        metrics.reduce([0.0])
    metrics = RankMetrics(EventStorage())
    metrics.add(0, {"a": torch.tensor(1.0)}, 0.0)
    with pytest.raises(TrainingError, match="every iteration needs the same losses"):
        metrics.add(1, {"c": torch.tensor(1.0)}, 0.0)


def trainer_of(rank: int, bad: int = -1) -> SimpleTrainer:
    """DDP over a linear model; rank 1's batch number ``bad`` is NaN."""
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))

    def batches() -> object:
        index = 0
        while True:
            batch = torch.full((2, 3), float(index + rank + 1))
            yield batch * float("nan") if rank == 1 and index == bad else batch
            index += 1

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    trainer = SimpleTrainer(model, batches(), optimizer, metric_period=4)  # type: ignore[arg-type]
    forward = trainer.forward
    trainer.forward = lambda batch: {"loss": forward(batch)["total_loss"].mean()}  # type: ignore[method-assign]
    return trainer


def check_trainer(rank: int) -> None:
    trainer = trainer_of(rank)
    calls: list[int] = []
    names = ("all_reduce", "all_gather", "broadcast", "barrier", "reduce", "gather", "all_gather_object")
    real = {name: getattr(dist, name) for name in names}
    for name, function in real.items():
        setattr(dist, name, lambda *a, f=function, **k: (calls.append(trainer.iter), f(*a, **k))[1])
    try:
        trainer.train(0, 10)
    finally:
        for name, function in real.items():
            setattr(dist, name, function)
    assert calls == [3, 7, 9], "one collective in each period of four iterations, and one at the end"
    losses = [v for v, _ in trainer.storage.history("loss").values()]
    gathered = [torch.zeros(10) for _ in range(2)]
    dist.all_gather(gathered, torch.tensor(losses))
    assert len(losses) == 10
    assert torch.equal(*gathered)

    stopping = trainer_of(rank)
    after_step = stopping.after_step

    def ask() -> None:
        if rank == 1 and stopping.iter == 5:
            stopping.request_stop("rank 1 has seen enough")
        after_step()

    stopping.after_step = ask  # type: ignore[method-assign]
    stopping.train(0, 100)
    assert stopping.iter == 8, "agreed when metrics are next exchanged"


def check_bad_loss(rank: int) -> None:
    good, bad = trainer_of(rank), trainer_of(rank, bad=5)
    good.train(0, 5)
    with pytest.raises(NonFiniteLossError, match="iteration 5"):
        bad.train(0, 100)
    for expected, value in zip(good.model.parameters(), bad.model.parameters(), strict=True):
        assert torch.equal(expected, value)


def two_ranks(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for check in (check_means, check_different_names, check_trainer, check_bad_loss):
        check(rank)
    Path(folder, f"done{rank}").touch()
    dist.destroy_process_group()


def test_two_ranks(tmp_path: Path) -> None:
    mp.spawn(two_ranks, args=(str(tmp_path),), nprocs=2)
    assert (tmp_path / "done0").exists() and (tmp_path / "done1").exists()
