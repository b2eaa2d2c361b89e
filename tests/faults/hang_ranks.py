"""A training of several ranks that hangs in a way that is asked for. Started once for each rank by test_hang.py.

python tests/faults/hang_ranks.py FOLDER RANK RANKS HOW TIMEOUT ABORT
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

HANGS_AT = 3


def main(folder: Path, rank: int, ranks: int, how: str, timeout: float, abort: bool) -> None:
    from drivetrain.engine.hooks import CallbackHook, EvalHook, Watchdog
    from drivetrain.engine.train_loop import SimpleTrainer
    from drivetrain.testing import TinyLoader, TinyModel

    logging.basicConfig(level=logging.INFO, format=f"rank{rank} %(message)s", stream=sys.stdout)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        world_size=ranks,
        rank=rank,
        timeout=timedelta(seconds=60),
    )

    def sleeps_for_ever(*_: Any) -> None:
        (folder / "hangs").touch()
        time.sleep(100)

    class Loader(TinyLoader):
        def batch(self, index: int) -> Any:
            if how == "loader" and rank == 1 and index == HANGS_AT:
                sleeps_for_ever()
            return [
                {**item, "image_id": 10 * index + i, "file_name": "x.jpg"}
                for i, item in enumerate(super().batch(index))
            ]

    class SleepyHook(CallbackHook):
        pass

    def misbehave(trainer: Any) -> None:
        if trainer.iter != HANGS_AT:
            return
        if how == "stop" and rank == 1:
            (folder / "hangs").touch()
            os.kill(os.getpid(), signal.SIGSTOP)

    def evaluate() -> dict[str, float] | None:
        if how == "slow" and rank == 0:
            time.sleep(1.4 * timeout)  # rank 1 waits for it
        return {"m": 1.0}

    def slow_first_step(trainer: Any) -> None:
        if how == "slow" and trainer.iter == 0:
            time.sleep(1.4 * timeout)

    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(TinyModel(), broadcast_buffers=False)
    trainer = SimpleTrainer(model, Loader(seed=rank), torch.optim.SGD(model.parameters(), 0.01))
    limits = {"hooks_timeout": timeout} if how == "hook" else {}
    sleepy = SleepyHook(after_step=lambda t: sleeps_for_ever() if t.iter == HANGS_AT and rank == 1 else None)
    alone = CallbackHook(after_step=lambda t: evaluate() if t.iter == 2 and rank == 0 else None)  # no barrier
    trainer.register_hooks(
        [
            CallbackHook(after_backward=misbehave, before_step=slow_first_step),
            Watchdog(timeout, abort=abort, folder=folder, **limits),
            sleepy if how == "hook" else None,
            EvalHook(5, evaluate, eval_after_train=False) if how == "slow" else None,
            alone if how == "slow" else None,
        ]
    )
    trainer.train(0, 6)
    print("finished", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], float(sys.argv[5]), sys.argv[6] == "1")
