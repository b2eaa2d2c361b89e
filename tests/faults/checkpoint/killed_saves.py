"""Processes that save at every iteration, killed (SIGKILL) at random moments, and what is left of their saves.

    python tests/faults/checkpoint/killed_saves.py --kills 200

Each child process resumes the training in the folder and goes on, saving beside its steps; now and then an evaluation
finds a better model. After each kill the folder is resumed here: model, optimizer, loader, hooks and random generators
must be, bit for bit, those of the uninterrupted training at that iteration, the best checkpoint must be whole, and no
iteration that an earlier resume found may be lost. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from drivetrain.checkpoint import Checkpointer, overlap, read_checkpoint
from drivetrain.engine.hooks import EMA, BestCheckpointer, CallbackHook, EvalHook, PeriodicCheckpointer
from drivetrain.testing import tiny_trainer

LENGTH = 300  # iterations; a training that reaches them begins again in a new folder


def build(folder: Path, *after_step: Any) -> tuple[Any, Checkpointer]:
    """A training with everything in its state."""
    trainer = tiny_trainer()
    checkpointer = Checkpointer(trainer.model, str(folder), trainer=trainer)
    hooks = [
        EMA(0.9),
        *(CallbackHook(after_step=call) for call in after_step),
        PeriodicCheckpointer(checkpointer, 1, max_to_keep=2),
        EvalHook(3, lambda: {"AP": float(min(trainer.iter, LENGTH - 1))}),  # at the end `iter` is LENGTH
        BestCheckpointer(3, checkpointer, "AP"),
    ]
    trainer.register_hooks(hooks)
    return trainer, checkpointer


def digest(trainer: Any) -> str:
    """Of the model, the average, the optimizer, the loader's position and the generators."""
    state = trainer.state_dict()
    kept = {key: state[key] for key in ("optimizer", "rng", "data_loader")}
    kept |= {"model": trainer.model.state_dict(), "ema": state["hooks"]["EMA"]["average"]}
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in value:
                found.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                add(item)
        elif isinstance(value, torch.Tensor):
            found.update(value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        else:
            found.update(repr(value).encode())

    add(kept)
    return found.hexdigest()


def reference() -> list[str]:
    """The digest after each iteration of a training that nobody kills, nor saves."""
    digests: list[str] = []
    trainer = tiny_trainer()
    trainer.register_hooks([EMA(0.9), CallbackHook(after_step=lambda t: digests.append(digest(t)))])
    trainer.train(0, LENGTH)
    return digests


def child(folder: Path) -> None:
    """Resume and train."""
    trainer, checkpointer = build(folder)
    checkpointer.resume_or_load("")
    trainer.train(trainer.iter + 1 if checkpointer.has_checkpoint() else 0, LENGTH)


def kill_once(folder: Path, delay: float, at_start: bool) -> bool:
    """Start a child and kill it; whether that was within a save.

    Args:
        folder: where it trains.
        delay: seconds to wait before.
        at_start: count them from its start, rather than from its first save.
    """
    pointer = folder / "last_checkpoint"
    before = pointer.stat().st_mtime_ns if pointer.exists() else 0
    pid = os.fork()
    if pid == 0:
        try:
            child(folder)
        except BaseException:
            logging.exception("the child failed")
            os._exit(3)
        os._exit(0)
    ended, status = 0, 0
    deadline = time.monotonic() + 60
    while not (at_start or ended) and (pointer.stat().st_mtime_ns if pointer.exists() else 0) == before:
        assert time.monotonic() < deadline, "the child saves nothing"
        time.sleep(0.005)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    assert not (os.WIFEXITED(status) and os.WEXITSTATUS(status)), "a child could not resume or train; see its log"
    return any(path.name.endswith(".tmp") for path in folder.iterdir()) if folder.is_dir() else False


def check(folder: Path, digests: list[str]) -> int:
    """Resume; returns the iteration found, -1 where there is none."""
    trainer, checkpointer = build(folder)
    rest = checkpointer.resume_or_load("")
    best = folder / "model_best.pth"
    if best.exists():
        checkpointer.folder.verify(best.name)
        data = read_checkpoint(best)
        assert data["metric"] == {"AP": float(data["iteration"])} and data["iteration"] % 3 == 2, "the best is no whole"
    if not rest:
        assert not best.exists(), "a best checkpoint, but none to resume from"
        return -1
    iteration = int(rest["iteration"])
    assert digest(trainer) == digests[iteration], f"the state at iteration {iteration} is another one"
    known = trainer._hooks[-1].best_iter
    assert known is None or (best.exists() and data["iteration"] >= known), "a best model is known that is not there"
    assert not list(folder.glob("*.corrupt*")), "a damaged file"
    return iteration


def run(kills: int, seed: int, root: Path) -> dict[str, int]:
    """Kill that many times; what happened, in numbers."""
    rng = random.Random(seed)
    digests = reference()
    counts = {"kills": 0, "within_a_save": 0, "iterations": 0, "trainings": 1}
    folder, before = root / "0", -1
    while counts["kills"] < kills:
        counts["within_a_save"] += kill_once(folder, rng.uniform(0, 0.2), counts["kills"] % 4 == 3)
        counts["kills"] += 1
        found = check(folder, digests)
        assert found >= before, f"resumed from {before} before, and now from {found}"
        counts["iterations"] += found - before
        before = found
        if found >= LENGTH - 1:
            folder, before = root / str(counts["kills"]), -1
            counts["trainings"] += 1
    return counts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Kill trainings within their saves, and resume them.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    overlap._SMALL = overlap._WORTH_IT = 1  # weights and optimizer state are copied beside the steps, little as it is
    with tempfile.TemporaryDirectory() as root:
        print(json.dumps(run(options.kills, options.seed, Path(root))))


if __name__ == "__main__":
    main()
