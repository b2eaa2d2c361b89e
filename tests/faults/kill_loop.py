"""Kills a training again and again, continues it each time, and compares it with one that nobody killed.

Each life of the training is a process (or two, one a rank) that gets SIGKILL at a random moment: starting, in a step,
evaluating, saving. The next one continues from what is on the disk, with another number of loader workers.
Augmentation, dropout, batch norm, an average of the weights and bfloat16 are on; a checkpoint is made every other
iteration. Compared are, bit for bit, the losses of all lives, and at the end weights, average and optimizer state.

    python tests/faults/kill_loop.py --kills 200 --ranks 1
    python tests/faults/kill_loop.py --kills 200 --ranks 2

Prints a table; the exit code is 0 if nothing diverged and every life could continue.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

ITERATIONS = 24
WITHOUT = ("", "rng", "data_loader", "optimizer", "EMA", "buffers")


@dataclass
class Outcome:
    """What was seen."""

    kills: int = 0
    runs: int = 0
    failed: list[str] = field(default_factory=list)
    divergent: list[str] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)


def config(folder: Path, data: Any, workers: int) -> Any:
    """A training of a second."""
    from drivetrain.engine.defaults import get_cfg

    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(folder)
    cfg.DATASETS.REGISTER = {
        "kill_train": {"json": data.train_json, "images": data.train_images},
        "kill_val": {"json": data.val_json, "images": data.val_images},
    }
    cfg.merge_from_list(
        [
            "DATASETS.TRAIN=('kill_train',)",
            "DATASETS.TEST=('kill_val',)",
            "MODEL.DEVICE=cpu",
            f"DATALOADER.NUM_WORKERS={workers}",
            "INPUT.MIN_SIZE_TRAIN=(48,)",
            "INPUT.MIN_SIZE_TEST=48",
            "INPUT.RANDOM_FLIP=both",
            "INPUT.COLOR.BRIGHTNESS=0.3",
            "SOLVER.IMS_PER_BATCH=4",
            f"SOLVER.MAX_ITER={ITERATIONS}",
            "SOLVER.WARMUP_ITERS=4",
            "SOLVER.CHECKPOINT_PERIOD=2",
            "SOLVER.CHECKPOINT_KEEP=2",
            "SOLVER.PRECISION=bf16",
            "SOLVER.EMA.ENABLED=True",
            "SOLVER.BEST_METRIC=bbox/AP",
            "TEST.EVAL_PERIOD=8",
            "REHEARSE=False",
            "SEED=11",
        ]
    )
    return cfg


def live(folder: Path, data: Any, workers: int, rank: int, ranks: int, without: str) -> None:
    """One life: continue what is there, or begin. ``without`` names a part of the state that is not restored."""
    import torch.distributed as dist

    from drivetrain.engine import HookBase
    from drivetrain.engine.defaults import DefaultTrainer
    from drivetrain.runtime.seeding import seed_all_rng
    from drivetrain.testing import TinyModel

    class Losses(HookBase):
        """Appends each iteration's loss to a file of this rank, in one write."""

        def after_step(self) -> None:
            value = float(self.trainer.storage.history("total_loss").latest())
            line = f"{self.trainer.iter} {value.hex()}\n".encode()
            handle = os.open(folder / f"losses.{rank}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, line)
            os.close(handle)

    if ranks > 1:
        store = folder.parent / "rendezvous"
        dist.init_process_group("gloo", init_method=f"file://{store}", world_size=ranks, rank=rank)
    cfg = config(folder, data, workers)
    seed_all_rng(cfg.SEED)
    model = TinyModel()
    seed_all_rng(cfg.SEED + rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    trainer = DefaultTrainer(cfg, model=model, optimizer=optimizer, hooks=[Losses()])
    if without in ("rng", "data_loader", "optimizer", "EMA"):
        _forget(trainer, without)
    trainer.resume_or_load()
    if without == "buffers" and trainer.start_iter:
        model.norm.reset_running_stats()
    trainer.train()


def _forget(trainer: Any, part: str) -> None:
    """The negative control: a trainer that does not take up a part of its state."""
    load = type(trainer).load_state_dict

    class Forgetful(type(trainer)):  # type: ignore[misc]
        def load_state_dict(self, state: Any) -> None:
            kept = {**state, "_trainer": dict(state["_trainer"]), "hooks": dict(state["hooks"])}
            if part == "optimizer":
                kept["_trainer"]["optimizer"] = {**kept["_trainer"]["optimizer"], "state": {}}
            else:
                kept["_trainer"].pop(part, None)
                kept["hooks"].pop(part, None)
            load(self, kept)

    trainer.__class__ = Forgetful


def begin(folder: Path, data: Any, workers: int, rank: int, ranks: int, without: str = "") -> int:
    """Fork a life, in a process group of its own; its number."""
    child = os.fork()
    if child:
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        output = os.open(folder.parent / f"output.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        live(folder, data, workers, rank, ranks, without)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(processes: list[int], until: float, enough: Callable[[], bool] = lambda: False) -> dict[int, int]:
    """Exit codes of those that ended by then, or when it was enough; negative for a signal."""
    codes: dict[int, int] = {}
    while len(codes) < len(processes) and time.monotonic() < until and not enough():
        for process in processes:
            if process not in codes and (found := os.waitpid(process, os.WNOHANG))[0]:
                codes[process] = os.waitstatus_to_exitcode(found[1])
        time.sleep(0.002)
    return codes


def end(processes: list[int], codes: dict[int, int]) -> dict[int, int]:
    """SIGKILL what still runs, workers of the loader included, and take leave of it."""
    for process in processes:
        if process not in codes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            codes[process] = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return codes


def moment(folder: Path) -> str:
    """What the training was doing when it was killed, as far as the folder tells."""
    if any(p.name.endswith(".tmp") for p in folder.glob(".*")):
        return "saving"
    return "training" if (folder / "losses.0").exists() else "starting"


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of the parts of the final checkpoint."""
    saved = torch.load(folder / "model_final.pth", weights_only=True)
    state = saved["trainer"]
    parts = {"weights": saved["model"], "average": state["hooks"]["EMA"], "optimizer": state["_trainer"]["optimizer"]}
    return {name: hashlib.sha256(repr(_plain(part)).encode()).hexdigest()[:16] for name, part in parts.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.reshape(-1).view(torch.uint8).tolist() if value.ndim else [value.dtype, value.item()]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def losses(folder: Path, rank: int) -> list[tuple[int, str]]:
    """(iteration, loss) of every step of every life; a line that was cut off by the kill is none."""
    lines = (folder / f"losses.{rank}").read_text().splitlines() if (folder / f"losses.{rank}").exists() else []
    pairs = [line.split() for line in lines]
    return [(int(pair[0]), pair[1]) for pair in pairs if len(pair) == 2]


def whole_run(work: Path, data: Any, ranks: int) -> tuple[dict[str, str], list[dict[int, str]], float]:
    """Digests, losses and duration of the training that nobody kills."""
    folder = work / "whole"
    start = time.monotonic()
    processes = [begin(folder, data, 0, rank, ranks) for rank in range(ranks)]
    codes = end(processes, wait(processes, start + 300))
    if any(codes.values()):
        raise RuntimeError(f"the training fails without being killed:\n{(work / 'output.0').read_text()[-3000:]}")
    return digest(folder), [dict(losses(folder, rank)) for rank in range(ranks)], time.monotonic() - start


def kill_loop(work: Path, kills: int, ranks: int, seed: int, without: str = "") -> Outcome:
    """Kill ``kills`` times, in as many trainings as it takes."""
    from drivetrain.data.formats.synthetic import make_synthetic

    draw = random.Random(seed)
    data = make_synthetic(str(work / "data"), train=24, val=4, size=(64, 48), seed=3)
    work.joinpath("whole").mkdir()
    digests, expected, duration = whole_run(work, data, ranks)
    outcome = Outcome()
    while outcome.kills < kills:
        folder = work / f"run{outcome.runs}"
        folder.mkdir()
        _run_until_finished(folder, data, ranks, draw, duration, outcome, without, kills)
        outcome.runs += 1
        for rank in range(ranks):
            wrong = [i for i, value in losses(folder, rank) if expected[rank].get(i) != value]
            outcome.divergent += [f"run {outcome.runs}, rank {rank}: the loss of iteration {i}" for i in wrong]
        if (folder / "model_final.pth").exists() and digest(folder) != digests:
            outcome.divergent.append(f"run {outcome.runs}: final state {digest(folder)}, not {digests}")
        shutil.rmtree(folder)
    return outcome


def _has_steps(folder: Path, count: int) -> bool:
    return len(losses(folder, 0)) >= count


def _run_until_finished(
    folder: Path, data: Any, ranks: int, draw: random.Random, duration: float, outcome: Outcome, without: str, most: int
) -> None:
    """One training in many lives."""
    for life in range(1000):
        with contextlib.suppress(FileNotFoundError):
            (folder.parent / "rendezvous").unlink()
        workers = draw.randrange(4)
        processes = [begin(folder, data, workers, rank, ranks, without) for rank in range(ranks)]
        spare = life > 40 or outcome.kills >= most  # enough: let it finish
        if spare or without or draw.random() < 0.5:  # after some steps, else after some time
            steps = 10**9 if spare else len(losses(folder, 0)) + draw.randrange(3, 9)
            codes = wait(processes, time.monotonic() + 300, partial(_has_steps, folder, steps))
            time.sleep(0 if len(codes) == ranks else draw.uniform(0, 0.1))
        else:
            codes = wait(processes, time.monotonic() + draw.uniform(0.05, 0.9) * duration)
        if len(codes) < ranks and ranks > 1 and draw.random() < 0.5:  # one rank first, the other one a moment later
            os.kill(draw.choice([p for p in processes if p not in codes]), signal.SIGKILL)
            time.sleep(draw.uniform(0, 0.2))
        killed = len(codes) < ranks
        codes = end(processes, codes)
        if killed:
            outcome.kills += 1
            outcome.moments[moment(folder)] += 1
            continue
        if any(codes.values()):
            text = (folder.parent / "output.0").read_text()[-2000:]
            outcome.failed.append(f"run {outcome.runs}, life {life}: exit codes {list(codes.values())}\n{text}")
        return


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", choices=WITHOUT, default="", help="do not restore this; then it has to diverge")
    args = parser.parse_args()
    torch.set_num_threads(1)
    import drivetrain.engine.defaults.trainer  # noqa: F401 - once, before the forks

    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-loop-") as work:
        outcome = kill_loop(Path(work), args.kills, args.ranks, args.seed, args.without)
    where = ", ".join(f"{count} while {name}" for name, count in sorted(outcome.moments.items()))
    print(f"ranks {args.ranks}: {outcome.kills} kills ({where}) in {outcome.runs} trainings of {ITERATIONS} iterations")
    print(f"failed resumes {len(outcome.failed)}, divergent {len(outcome.divergent)}, {time.monotonic() - start:.0f} s")
    for problem in (outcome.failed + outcome.divergent)[:5]:
        print(problem)
    return 1 if outcome.failed or outcome.divergent else 0


if __name__ == "__main__":
    sys.exit(main())
