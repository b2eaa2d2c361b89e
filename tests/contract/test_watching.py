"""Watching never changes training, through DefaultTrainer with everything on, in one process and in two.

The two are this file, started twice as a script by gloo over the loopback interface. They also show what a job in
several processes does at its beginning, and how it joins a group that is there already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 6


def config(folder: Path, *overrides: str) -> Any:
    from drivetrain.engine import get_cfg

    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    cfg.merge_from_list([f"SOLVER.MAX_ITER={LENGTH}", "SOLVER.WARMUP_ITERS=2", "SEED=5", *overrides])
    return cfg


def build(folder: Path, watched: bool) -> Any:
    """A trainer of the toy detector; watched by every hook and writer that there is, or by none."""
    from drivetrain.engine import DefaultTrainer, hooks
    from drivetrain.evaluation import DatasetEvaluator
    from drivetrain.events import ProgressBar
    from drivetrain.runtime import comm
    from drivetrain.runtime.seeding import seed_all_rng
    from drivetrain.testing import TinyLoader, TinyModel

    class Draws(DatasetEvaluator):
        """Uses the generators that the training uses."""

        def process(self, inputs: Any, outputs: Any) -> None:
            self.seen = float(torch.rand(()))

        def evaluate(self) -> Mapping[str, Any]:
            return {"bbox": {"AP": self.seen}}

    class Trainer(DefaultTrainer):
        def build_writers(self) -> Any:
            return [*super().build_writers(), ProgressBar(self.max_iter, interval=0)]

    rank = comm.get_rank()
    on = ("SOLVER.CHECKPOINT_PERIOD=2", "TEST.EVAL_PERIOD=2", "SOLVER.EMA.ENABLED=True", "VIS_PERIOD=2")
    cfg = config(folder, *(*on, "SOLVER.BEST_METRIC=bbox/AP") if watched else ())
    parts: dict[str, Any] = {"test_loaders": [TinyLoader(batches=2, seed=9)], "evaluators": [Draws()]}
    seed_all_rng(cfg.SEED)
    model = TinyModel()
    seed_all_rng(cfg.SEED + rank)
    trainer = Trainer(cfg, model=model, train_loader=TinyLoader(seed=rank), **parts)
    if not watched:
        trainer._hooks = [hook for hook in trainer._hooks if isinstance(hook, hooks.LRScheduler)]
        return trainer
    more = [
        hooks.ValidationLoss(TinyLoader(batches=1 + rank, seed=7), 2),
        hooks.EarlyStopping("bbox/AP", patience=100),
        hooks.CallbackHook(after_step=lambda t: t.storage.latest()),
        hooks.AutogradProfiler(lambda t: t.iter == 1, str(folder), use_cuda=False),
        hooks.TorchProfiler(lambda t: t.iter == 3, str(folder)),
        hooks.TorchMemoryStats(period=1),
        hooks.Watchdog(600),
        hooks.PreemptionCheckpointer(trainer.checkpointer),
    ]
    trainer.register_hooks(more)
    if rank == 0:
        trainer._hooks.insert(len(trainer._hooks), trainer._hooks.pop(-1 - len(more)))  # the writers last
    watching = {type(hook).__name__ for hook in trainer._hooks}
    writing = {"PeriodicCheckpointer", "BestCheckpointer", "PeriodicWriter"} if rank else set()
    assert watching == set(hooks.__all__) - {"HookBase", "PreciseBN"} - writing, watching
    return trainer


def check(folder: Path, *more: Any) -> None:
    """Train both, the second with ``more`` hooks too; compare weights, buffers, momentum and random generators."""
    from drivetrain.runtime.seeding import capture_rng_state
    from drivetrain.testing.toys import _compare, _leaves

    ends = []
    for watched in (False, True):
        trainer = build(folder / f"watched_{watched}", watched)
        trainer.register_hooks(list(more) if watched else [])
        trainer.train()
        state = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
        ends.append(dict(_leaves({**state, "rng": capture_rng_state()}, "")))
        assert trainer.iter == LENGTH
    _compare(ends[0], ends[1], "everything on")
    assert {"validation_loss", "bbox/AP", "lr"} <= set(trainer.storage.latest())


def test_everything_on_in_one_process(tmp_path: Path) -> None:
    check(tmp_path)
    watched = tmp_path / "watched_True"
    assert (watched / "model_best.pth").exists() and (watched / "metrics.json").stat().st_size > 0
    assert list(watched.glob("events.out*"))


def test_the_comparison_sees_one_number_drawn(tmp_path: Path) -> None:
    from drivetrain.engine.hooks import CallbackHook

    with pytest.raises(AssertionError, match="everything on: "):
        check(tmp_path, CallbackHook(after_step=lambda t: torch.rand(()) if t.iter == 3 else None))


def test_two_ranks(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in ranks]
    for process, output in zip(ranks, outputs, strict=True):
        assert process.returncode == 0, "\n".join(f"rank {i}:\n{text[-4000:]}" for i, text in enumerate(outputs))
        assert all(f"passed {scenario.__name__}\n" in output for scenario in SCENARIOS)
    assert "rank 0 was here" in outputs[0] and "rank 1 was here" not in outputs[1]  # the console is rank 0's


# What follows runs in the two processes.


def a_job_has_a_log_and_a_seed_for_each_rank(rank: int, folder: Path) -> None:
    import logging

    from drivetrain.engine import default_setup
    from drivetrain.runtime import comm

    cfg = config(folder)
    default_setup(cfg, {})
    default_setup(cfg, {})
    logging.getLogger("drivetrain.test").info("rank %d was here", rank)
    drawn = comm.all_gather(torch.rand(()))
    assert not torch.equal(*drawn)
    torch.manual_seed(5 + rank)
    assert torch.equal(torch.rand(()), drawn[rank])
    dist.barrier()
    for other, name in enumerate(("log.txt", "log.txt.rank1")):
        text = (folder / name).read_text()
        assert text.count(f"rank {other} was here") == 1 and f"rank {1 - other} was here" not in text
        assert f"Rank of current process: {other}. World size: 2" in text
        assert f"Random seed of this process: {5 + other}" in text
        assert ("Running with full config" in text) == (other == 0)
    assert (folder / "config.yaml").exists()


def everything_on(rank: int, folder: Path) -> None:
    check(folder)


def launch_joins_the_group_that_is_there(rank: int, folder: Path) -> None:
    """As under Ray, which makes the group and calls the training function in each worker."""
    from drivetrain.engine import launch

    def training(extra: int) -> tuple[int, int, int]:  # no new process has to find it
        total = torch.tensor([float(rank + extra)])
        dist.all_reduce(total)
        return os.getpid(), dist.get_world_size(), int(total)

    assert launch(training, 2, args=(3,)) == (os.getpid(), 2, 7)
    assert launch(training, 8, num_machines=4, dist_url="auto", args=(0,)) == (os.getpid(), 2, 1)
    assert dist.is_initialized()


SCENARIOS: list[Callable[[int, Path], None]] = [
    a_job_has_a_log_and_a_seed_for_each_rank,
    everything_on,
    launch_joins_the_group_that_is_there,
]


def main(folder: Path, rank: int) -> None:
    method = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=method, world_size=2, rank=rank, timeout=timedelta(seconds=90))
    for scenario in SCENARIOS:
        scenario(rank, folder / scenario.__name__)
        dist.barrier()
        print(f"passed {scenario.__name__}", flush=True)
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # libraries that were used here (the profiler's) may fail to end their threads at a usual exit


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
