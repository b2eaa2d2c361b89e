"""Hooks in two processes. The test starts this file twice as a script; each scenario runs on both ranks together."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import nn

ROOT = Path(__file__).resolve().parents[3]
Scenario = Callable[[int, Path], None]
SCENARIOS: dict[Scenario, tuple[str, ...]] = {}  # with the hooks whose results each checks


def checks(*names: str) -> Callable[[Scenario], Scenario]:
    """Make a function a scenario that checks what these hooks do in two ranks."""

    def add(scenario: Scenario) -> Scenario:
        SCENARIOS[scenario] = names
        return scenario

    return add


def test_every_hook_is_checked_in_two_ranks() -> None:
    from drivetrain.engine import hooks

    assert {name for names in SCENARIOS.values() for name in names} == set(hooks.__all__) - {"HookBase"}
    for scenario, names in SCENARIOS.items():
        source = inspect.getsource(scenario).split(") -> None:", 1)[1]
        assert all(f"{name}(" in source for name in names), scenario.__name__


def test_all_scenarios(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    ranks = [
        subprocess.Popen(
            [*command, str(rank)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in ranks]
    for process, output in zip(ranks, outputs, strict=True):
        assert process.returncode == 0, "\n".join(f"rank {i}:\n{text[-4000:]}" for i, text in enumerate(outputs))
        for scenario in SCENARIOS:
            assert f"passed {scenario.__name__}\n" in output


# What follows runs in the two processes.


@checks("EvalHook", "BestCheckpointer", "EarlyStopping", "LRScheduler")
def evaluations_decide_alike_on_both_ranks(rank: int, folder: Path) -> None:
    """Results are known on rank 0 alone."""
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine.hooks import BestCheckpointer, EarlyStopping, EvalHook, LRScheduler
    from drivetrain.testing import tiny_trainer

    trainer = tiny_trainer(metric_period=1)
    left = iter([5.0, 4.0, 6.0, 3.0, 2.0, 1.0])
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, "max", factor=0.5, patience=0)
    best = BestCheckpointer(1, Checkpointer(trainer.model, str(folder), trainer=trainer), "bbox/AP")
    trainer.register_hooks(
        [
            LRScheduler(trainer.optimizer, scheduler),
            EvalHook(2, lambda: {"bbox": {"AP": next(left)}} if rank == 0 else None),
            best if rank == 0 else None,
            EarlyStopping("bbox/AP", patience=2),
        ]
    )
    trainer.train(0, 30)
    rates = [value for value, _ in trainer.storage.history("lr").values()]
    assert rates[:10] == [0.1] * 4 + [0.05] * 4 + [0.025] * 2, rates
    # The fifth evaluation, after iteration 9, is the second without improvement; all ranks stop there.
    assert trainer.iter == trainer.max_iter == 10, trainer.iter
    if rank == 0:
        assert (best.best_metric, best.best_iter) == (6.0, 5)


@checks("EvalHook")
def a_missed_evaluation_is_made_up_for_by_both(rank: int, folder: Path) -> None:
    """Only rank 0 has a hook that waits for it."""
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine.hooks import BestCheckpointer, EvalHook
    from drivetrain.testing import tiny_trainer

    trainer = tiny_trainer()
    called: list[int] = []

    def evaluate() -> Any:
        called.append(trainer.iter)
        dist.barrier()  # as an evaluation does: it hangs unless both come
        return {"m": 1.0} if rank == 0 else None

    best = BestCheckpointer(1, Checkpointer(trainer.model, str(folder)), "m") if rank == 0 else None
    trainer.register_hooks([EvalHook(2, evaluate), best])
    trainer._hooks.load_state_dict({"EvalHook": {"evaluated": None}})
    trainer.train(4, 5)
    assert called == [3, 5], called


@checks("EvalHook", "EarlyStopping")
def results_that_rank_0_kept_are_taken_by_both(rank: int, folder: Path) -> None:
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine.hooks import CallbackHook, EarlyStopping, EvalHook
    from drivetrain.testing import tiny_trainer

    states: list[Any] = []

    def train(end: int) -> tuple[Any, list[int]]:
        trainer, called = tiny_trainer(metric_period=1), list[int]()
        trainer.checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)

        def evaluate() -> Any:
            called.append(trainer.iter)
            dist.barrier()  # as an evaluation does: it hangs unless both come
            return {"m": 1.0} if rank == 0 else None

        save = CallbackHook(after_step=lambda t: states.append(copy.deepcopy(trainer.state_dict())))
        trainer.register_hooks([save, EvalHook(2, evaluate), EarlyStopping("m", patience=2)])
        if states:
            trainer.load_state_dict(states[-1])
        trainer.train(trainer.iter + 1 if states else 0, end)
        return trainer, called

    assert train(4)[1] == [1, 4]
    longer, called = train(100)
    assert called == [5] and longer.iter == 6, (called, longer.iter)  # the third without a better one comes after 5


@checks("PreciseBN")
def precise_bn_averages_over_ranks(rank: int, folder: Path) -> None:
    from drivetrain.engine.hooks import PreciseBN

    data = [torch.randn(6, 3, generator=torch.Generator().manual_seed(i)) * (i + 1) + i for i in range(4)]
    layer = nn.BatchNorm1d(3)
    model = nn.parallel.DistributedDataParallel(layer)
    PreciseBN(1, model, data[2 * rank : 2 * rank + 2], num_iter=2).update_stats()
    together = torch.cat(data)
    torch.testing.assert_close(layer.running_mean, together.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.running_var, together.var(0, correction=0), rtol=1e-5, atol=1e-6)
    PreciseBN(1, model, [] if rank else data[:1], num_iter=2).update_stats()  # the loader of one rank has nothing
    torch.testing.assert_close(layer.running_mean, data[0].mean(0), rtol=1e-5, atol=1e-6)


@checks("ValidationLoss")
def validation_loss_weighs_the_samples_of_both(rank: int, folder: Path) -> None:
    from drivetrain.engine.hooks import ValidationLoss
    from drivetrain.engine.train_loop import SimpleTrainer

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))
            self.register_buffer("buffer", torch.zeros(1))  # the wrapper's forward sends it around

        def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": (self.weight * batch).mean()}

    def after(lots: list[list[torch.Tensor]]) -> float:
        # Wrapped: a forward of the wrapper would exchange, and the ranks have different numbers of batches.
        model = nn.parallel.DistributedDataParallel(Mean())
        trainer = SimpleTrainer(model, [torch.zeros(1)] * 2, torch.optim.SGD(model.parameters(), lr=0.0))
        trainer.register_hooks([ValidationLoss(lots[rank], 1)])
        trainer.train(0, 1)
        return trainer.storage.history("validation_loss").latest()

    one, two = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])
    assert abs(after([[one], [two, two]]) - 26 / 5) < 1e-6
    assert abs(after([[one], []]) - 2.0) < 1e-6


@checks("PreemptionCheckpointer")
def a_signal_on_one_rank_ends_both(rank: int, folder: Path) -> None:
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine.hooks import CallbackHook, PreemptionCheckpointer
    from drivetrain.testing import tiny_trainer

    trainer = tiny_trainer()
    finished: list[int] = []
    checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
    send = CallbackHook(
        after_step=lambda t: os.kill(os.getpid(), signal.SIGTERM) if rank == 1 and t.iter == 3 else None
    )
    note = CallbackHook(after_step=lambda t: finished.append(t.iter))
    trainer.register_hooks([send, note, PreemptionCheckpointer(checkpointer)])
    try:
        trainer.train(0, 10**6)
    except SystemExit as ended:
        assert ended.code == 75
    else:
        raise AssertionError("it went on")
    both: list[Any] = [None, None]
    dist.all_gather_object(both, finished[-1])
    assert both[0] == both[1] >= 3, both
    saved = torch.load(folder / "model_preempted.pth", weights_only=True)
    assert saved["iteration"] == finished[-1]


@checks("EvalHook", "PreemptionCheckpointer")
def figures_on_one_rank_are_left_when_the_one_that_waits_is_asked_to(rank: int, folder: Path) -> None:
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine.hooks import EvalHook, PreemptionCheckpointer
    from drivetrain.testing import tiny_trainer

    parts: list[int] = []

    def accumulate(part: int) -> None:
        parts.append(part)
        time.sleep(0.05)

    @torch.no_grad()
    def evaluate() -> Any:
        dist.barrier()  # as predictions are brought together
        for part in range(1000 if rank == 0 else 0):
            accumulate(part)
        if rank == 1:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return {"m": 1.0} if rank == 0 else None

    trainer = tiny_trainer()
    checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
    hook = EvalHook(2, evaluate)
    trainer.register_hooks([hook, PreemptionCheckpointer(checkpointer)])
    start = time.monotonic()
    try:
        trainer.train(0, 6)
    except SystemExit as ended:
        assert ended.code == 75
    else:
        raise AssertionError("it went on")
    assert trainer.iter == 1 and hook.meet is None and len(parts) < 1000, (trainer.iter, len(parts))
    assert time.monotonic() - start < 30
    if rank == 0:
        saved = torch.load(folder / "model_preempted.pth", weights_only=True)["trainer"]
        assert parts and (saved["iteration"], saved["hooks"]["EvalHook"]) == (1, {"evaluated": None})


@checks()
def all_hooks_together_change_nothing(rank: int, folder: Path) -> None:
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine import hooks
    from drivetrain.engine.train_loop import SimpleTrainer
    from drivetrain.runtime.seeding import seed_all_rng
    from drivetrain.testing import TinyModel, tiny_loader

    class Silent:
        writes = 0

        def write(self) -> None:
            self.writes += 1

        def close(self) -> None:
            self.writes += 100

    writer = Silent()

    def train(watched: bool) -> Any:
        seed_all_rng(0)
        model = nn.parallel.DistributedDataParallel(TinyModel(), broadcast_buffers=False)
        seed_all_rng(rank)
        trainer = SimpleTrainer(
            model, tiny_loader(seed=rank), torch.optim.SGD(model.parameters(), 0.05), metric_period=2
        )
        checkpointer = Checkpointer(model, str(folder), trainer=trainer)
        hook_list = [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=lambda progress: 1.0 - progress),
            hooks.EMA(0.9),
            hooks.CallbackHook(after_step=lambda t: None),
            hooks.PeriodicCheckpointer(checkpointer, 2) if rank == 0 else None,
            hooks.EvalHook(2, lambda: {"m": float(torch.rand(()))} if rank == 0 else {}),
            hooks.BestCheckpointer(2, checkpointer, "m"),
            hooks.EarlyStopping("m", 100),
            hooks.ValidationLoss(tiny_loader(batches=1 + rank, seed=5), 3),
            hooks.SamplePredictions(2),
            hooks.AutogradProfiler(lambda t: t.iter == 1, str(folder), use_cuda=False),
            hooks.TorchMemoryStats(),
            hooks.Watchdog(60),
            hooks.PreemptionCheckpointer(checkpointer),
            hooks.PeriodicWriter([writer], 2) if rank == 0 else None,
        ]
        trainer.register_hooks(hook_list if watched else hook_list[1:2])
        trainer.train(0, 5)
        return trainer, hook_list[2]

    plain, _ = train(False)
    drawn = torch.rand(3)
    watched, ema = train(True)
    assert torch.equal(torch.rand(3), drawn)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name]), name
    both: list[Any] = [None, None]
    dist.all_gather_object(both, ema.average)
    assert all(torch.equal(value, both[1][name]) for name, value in both[0].items())
    assert "head.weight" in both[0]  # the name in the model, not in its wrapper
    assert writer.writes == (104 if rank == 0 else 0)
    dist.barrier()
    trace = "profiler-trace-iter1.json" if rank == 0 else "profiler-trace-iter1.rank1.json"
    assert (folder / "log" / trace).exists()
    assert (folder / "model_final.pth").exists() and (folder / "model_best.pth").exists()


@checks("IterationTimer", "CallbackHook")
def each_rank_times_its_own_steps(rank: int, folder: Path) -> None:
    from drivetrain.engine.hooks import CallbackHook, IterationTimer
    from drivetrain.testing import tiny_trainer

    trainer = tiny_trainer(metric_period=2)
    seen: list[int] = []
    step = trainer.run_step

    def slow_on_rank_1() -> None:
        time.sleep(0.2 * rank)
        step()

    trainer.run_step = slow_on_rank_1  # type: ignore[method-assign]
    trainer.register_hooks([IterationTimer(), CallbackHook(after_step=lambda t: seen.append(10 * rank + t.iter))])
    trainer.train(0, 5)
    times = trainer.storage.history("time").values()
    assert [i for _, i in times] == [2, 3, 4], times
    both = gathered({"shortest": min(value for value, _ in times), "seen": seen})
    assert both[1]["shortest"] >= 0.2
    assert both[0]["seen"] == [0, 1, 2, 3, 4] and both[1]["seen"] == [10, 11, 12, 13, 14]


@checks("EMA")
def the_average_is_the_closed_form_on_both(rank: int, folder: Path) -> None:
    from drivetrain.engine.hooks import EMA, CallbackHook
    from drivetrain.engine.train_loop import SimpleTrainer
    from drivetrain.testing import TinyModel, tiny_loader

    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(TinyModel())
    start = model.module.head.weight.detach().clone()
    weights: list[torch.Tensor] = []
    average = EMA(0.75, warmup=False)
    trainer = SimpleTrainer(model, tiny_loader(seed=rank), torch.optim.SGD(model.parameters(), 0.5))
    keep = CallbackHook(after_step=lambda t: weights.append(t.model.module.head.weight.detach().clone()))
    trainer.register_hooks([average, keep])
    trainer.train(0, 4)
    expected = 0.75**4 * start + sum(0.25 * 0.75 ** (3 - i) * w for i, w in enumerate(weights))
    torch.testing.assert_close(average.average["head.weight"], expected)
    assert not torch.equal(weights[0], weights[3])
    first, second = gathered(average.average["head.weight"])
    assert torch.equal(first, second)


@checks("PeriodicWriter", "PeriodicCheckpointer")
def rank_0_writes_the_means_and_the_checkpoints(rank: int, folder: Path) -> None:
    from drivetrain.checkpoint import Checkpointer
    from drivetrain.engine.hooks import PeriodicCheckpointer, PeriodicWriter
    from drivetrain.events import JSONWriter
    from drivetrain.testing import tiny_loader, tiny_trainer

    trainer = tiny_trainer(metric_period=2)
    trainer.data_loader = tiny_loader(seed=rank)
    own: list[float] = []
    total_loss = trainer.total_loss

    def noted(losses: Any) -> torch.Tensor:
        total = total_loss(losses)
        own.append(total.item())
        return total

    trainer.total_loss = noted  # type: ignore[method-assign]
    mine = folder / f"rank{rank}"
    checkpointer = Checkpointer(trainer.model, str(mine), trainer=trainer)
    writer = JSONWriter(str(mine / "metrics.json"), window_size=1)
    trainer.register_hooks([PeriodicCheckpointer(checkpointer, 3), PeriodicWriter([writer], 2) if rank == 0 else None])
    trainer.train(0, 5)
    first, second = gathered(own)
    if rank == 1:
        assert not list(mine.glob("*.pth"))
        return
    lines = [json.loads(line) for line in (mine / "metrics.json").read_text().splitlines()]
    written = {line["iteration"]: line["total_loss"] for line in lines if "total_loss" in line}
    assert sorted(written) == [1, 3, 4], lines
    for iteration, value in written.items():
        assert abs(value - (first[iteration] + second[iteration]) / 2) < 1e-5
        assert abs(value - first[iteration]) > 1e-6  # the ranks' losses do differ
    for name, iteration in (("model_0000002", 2), ("model_final", 4)):
        assert torch.load(mine / f"{name}.pth", weights_only=True)["iteration"] == iteration


@checks("SamplePredictions", "AutogradProfiler", "TorchProfiler", "TorchMemoryStats")
def what_each_rank_shows_of_itself(rank: int, folder: Path) -> None:
    from drivetrain.engine.hooks import AutogradProfiler, SamplePredictions, TorchMemoryStats, TorchProfiler
    from drivetrain.testing import tiny_trainer

    trainer = tiny_trainer()
    trainer.register_hooks(
        [
            AutogradProfiler(lambda t: t.iter == 1, str(folder), use_cuda=False),
            TorchProfiler(lambda t: t.iter == 3, str(folder)),
            SamplePredictions(2, trainer.data_loader.batch(0), max_images=2),
            TorchMemoryStats(period=2, max_runs=1),
        ]
    )
    lines = Records("drivetrain.engine.hooks.memory_stats")
    sizes = ("max_memory_reserved", "max_memory_allocated", "memory_reserved", "memory_allocated")
    pretended = {name: lambda: (1 + rank) << 20 for name in sizes} | {"memory_summary": lambda: "summary"}
    pretended |= {"is_available": lambda: True, "reset_peak_memory_stats": lambda: None}
    with ExitStack() as stack:
        stack.enter_context(lines)
        for name, function in pretended.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        trainer.train(0, 5)
    assert any(f"iter: 1  max_reserved_mem: {1 + rank}MB" in line for line in lines.messages), lines.messages
    shown = [name for name, _, _ in trainer.storage._vis_data]
    assert shown == (["predictions/0", "predictions/1"] * 3 if rank == 0 else []), shown
    dist.barrier()
    log = folder / "log"
    for other, suffix in enumerate(("", ".rank1")):
        content = json.loads((log / f"profiler-trace-iter1{suffix}.json").read_text())
        assert any("conv2d" in event.get("name", "") for event in content["traceEvents"])
        assert list((log / "profiler-tensorboard-iter3").glob(f"worker{other}*.json*"))


@checks("Watchdog")
def a_hang_is_told_by_the_rank_that_hangs_and_the_one_that_waits(rank: int, folder: Path) -> None:
    from drivetrain.engine.hooks import Watchdog
    from drivetrain.engine.train_loop import SimpleTrainer
    from drivetrain.testing import TinyModel, tiny_loader

    class Hangs(SimpleTrainer):
        """On rank 1, iteration 2 waits for its data until both ranks have told of it."""

        def fetch(self) -> Any:
            end = time.monotonic() + 60
            while rank == 1 and self.iter == 2 and len(list(folder.glob("told*"))) < 2 and time.monotonic() < end:
                time.sleep(0.05)
            return super().fetch()

    folder.mkdir(exist_ok=True)
    model = nn.parallel.DistributedDataParallel(TinyModel(), broadcast_buffers=False)
    trainer = Hangs(model, tiny_loader(seed=rank), torch.optim.SGD(model.parameters(), 0.1))
    trainer.register_hooks([Watchdog(0.3, first_timeout=300, hooks_timeout=300, folder=folder)])
    with Records("drivetrain.engine.hooks.watchdog", note=folder / f"told{rank}") as reports:
        trainer.train(0, 4)
    told = [line for line in reports.messages if line.startswith(f"Rank {rank} hangs: iteration 2 ")]
    assert len(told) == 1, reports.messages
    assert (", in fetch\n" if rank == 1 else ", in backward\n") in told[0], told


class Records(logging.Handler):
    """Within the block, what a logger says; with ``note``, a file appears as soon as it says something."""

    def __init__(self, name: str, note: Path | None = None) -> None:
        super().__init__()
        self.logger, self.note = logging.getLogger(name), note
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        if self.note is not None:
            self.note.touch()

    def __enter__(self) -> Records:
        self.logger.addHandler(self)
        self.logger.setLevel(logging.INFO)
        return self

    def __exit__(self, *exception: Any) -> None:
        self.logger.removeHandler(self)


def gathered(value: Any) -> list[Any]:
    """The value of each rank."""
    from drivetrain.runtime import comm

    return comm.all_gather(value)


def main(folder: Path, rank: int) -> None:
    method, limit = f"file://{folder / 'rendezvous'}", timedelta(seconds=90)
    dist.init_process_group("gloo", init_method=method, world_size=2, rank=rank, timeout=limit)
    for scenario in SCENARIOS:
        scenario(rank, folder / scenario.__name__)
        dist.barrier()
        print(f"passed {scenario.__name__}", flush=True)
    dist.destroy_process_group()
    assert threading.active_count() == 1, threading.enumerate()
    os._exit(0)  # libraries that were used here (the profiler's) may fail to end their threads at a usual exit


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
