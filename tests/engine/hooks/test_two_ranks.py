"""Hooks in two processes. The test starts this file twice as a script; each scenario runs on both ranks together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

ROOT = Path(__file__).resolve().parents[3]


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
    for rank, (process, output) in enumerate(zip(ranks, outputs, strict=True)):
        assert process.returncode == 0, f"rank {rank}:\n{output[-4000:]}"
        for scenario in SCENARIOS:
            assert f"passed {scenario.__name__}\n" in output


# What follows runs in the two processes.


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
    trainer._hooks.load_state_dict({"EvalHook": {"evaluated": None, "interrupted": False}})
    trainer.train(4, 5)
    assert called == [3, 5], called


def precise_bn_averages_over_ranks(rank: int, folder: Path) -> None:
    from drivetrain.engine.hooks import PreciseBN

    data = [torch.randn(6, 3, generator=torch.Generator().manual_seed(i)) * (i + 1) + i for i in range(4)]
    layer = nn.BatchNorm1d(3)
    model = nn.parallel.DistributedDataParallel(layer)
    PreciseBN(1, model, data[2 * rank : 2 * rank + 2], num_iter=2).update_stats()
    together = torch.cat(data)
    torch.testing.assert_close(layer.running_mean, together.mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.running_var, together.var(0, correction=0), rtol=1e-5, atol=1e-6)


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


SCENARIOS: list[Callable[[int, Path], None]] = [
    evaluations_decide_alike_on_both_ranks,
    a_missed_evaluation_is_made_up_for_by_both,
    precise_bn_averages_over_ranks,
    validation_loss_weighs_the_samples_of_both,
    a_signal_on_one_rank_ends_both,
    all_hooks_together_change_nothing,
]


def main(folder: Path, rank: int) -> None:
    method, limit = f"file://{folder / 'rendezvous'}", timedelta(seconds=90)
    dist.init_process_group("gloo", init_method=method, world_size=2, rank=rank, timeout=limit)
    for scenario in SCENARIOS:
        scenario(rank, folder / scenario.__name__)
        dist.barrier()
        print(f"passed {scenario.__name__}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
