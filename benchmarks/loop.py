"""What the engine costs: time per iteration of its loops over a bare PyTorch loop with the same tiny model.

Three loops run the same model, optimizer and batch:

- ``bare``: fetch, forward, zero_grad, backward, step, and nothing else;
- ``SimpleTrainer``: the engine's loop without hooks;
- ``DefaultTrainer``: with all its default hooks and writers (console, JSON, TensorBoard), the objects given to it.

The loader itself takes the times, at two of its batches, so that building, warm-up and the end of a training are not in
them, and nothing is added to one loop that the others do not have. Rounds are interleaved and their order
turns, so that what else the machine does falls on all three; ratios are taken within a round. CPU time counts all
threads of the process; it is the steadier figure on a shared machine.

    python benchmarks/loop.py --rounds 21 --iterations 1000
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

WIDTH = 16
BATCH = 4


class TinyModel(nn.Module):
    """Two linear layers, with the model contract: a dict of losses."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean square of the output."""
        return {"loss": self.layers(batch).square().mean()}


@dataclass
class Feed:
    """Gives one batch again and again, and notes the time at the batch after the warm-up and at the last one."""

    batch: torch.Tensor
    warmup: int
    iterations: int
    times: list[tuple[float, float]] = field(default_factory=list)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for _ in range(self.warmup):
            yield self.batch
        self.times.append((time.process_time(), time.perf_counter()))
        for _ in range(self.iterations):
            yield self.batch
        self.times.append((time.process_time(), time.perf_counter()))
        yield self.batch

    @property
    def total(self) -> int:
        """Batches in all, one after the second time included."""
        return self.warmup + self.iterations + 1

    def microseconds(self) -> tuple[float, float]:
        """CPU and wall time per iteration."""
        (cpu0, wall0), (cpu1, wall1) = self.times
        return (cpu1 - cpu0) / self.iterations * 1e6, (wall1 - wall0) / self.iterations * 1e6


def bare(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """The loop that one would write by hand."""
    for batch in feed:
        losses = model(batch)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def simple_trainer(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """SimpleTrainer without hooks."""
    from drivetrain.engine.train_loop import SimpleTrainer

    SimpleTrainer(model, feed, optimizer).train(0, feed.total)


def default_trainer(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """DefaultTrainer with everything it has by default; no checkpoint falls into the measured part."""
    from drivetrain.engine.defaults import DefaultTrainer, get_cfg

    with tempfile.TemporaryDirectory() as folder:
        cfg = get_cfg()
        cfg.OUTPUT_DIR = folder
        cfg.MODEL.DEVICE = "cpu"
        cfg.SOLVER.MAX_ITER = feed.total
        cfg.SOLVER.CHECKPOINT_PERIOD = 10 * feed.total
        DefaultTrainer(cfg, model=model, optimizer=optimizer, train_loader=feed).train()


LOOPS: dict[str, Callable[[Feed, nn.Module, torch.optim.Optimizer], None]] = {
    "bare": bare,
    "SimpleTrainer": simple_trainer,
    "DefaultTrainer": default_trainer,
}


def measure(name: str, warmup: int, iterations: int) -> tuple[float, float]:
    """CPU and wall microseconds per iteration of one loop, with a new model; what it prints goes nowhere."""
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    feed = Feed(torch.randn(BATCH, WIDTH), warmup, iterations)
    gc.collect()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        LOOPS[name](feed, model, optimizer)
    return feed.microseconds()


def run(rounds: int, warmup: int, iterations: int) -> dict[str, list[tuple[float, float]]]:
    """The times of each loop in each round."""
    names = list(LOOPS)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            times[name].append(measure(name, warmup, iterations))
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return times


def spread(values: list[float], digits: int) -> str:
    """Median, and in brackets the quartiles."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return f"{quartiles[1]:.{digits}f} [{quartiles[0]:.{digits}f}, {quartiles[2]:.{digits}f}]"


def table(times: dict[str, list[tuple[float, float]]]) -> str:
    """The figures as aligned text, one table for CPU time and one for wall time."""
    lines = [["", "us per iteration", "added us", "ratio to bare"]]
    for kind, label in enumerate(("CPU time", "wall time")):
        lines.append([label, "", "", ""])
        base = [pair[kind] for pair in times["bare"]]
        for name, pairs in times.items():
            own = [pair[kind] for pair in pairs]
            added = [a - b for a, b in zip(own, base, strict=True)]
            ratio = [a / b for a, b in zip(own, base, strict=True)]
            lines.append([f"  {name}", spread(own, 1), spread(added, 1), spread(ratio, 3)])
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Time per iteration of the engine's loops over a bare PyTorch loop.",
        epilog="example: python benchmarks/loop.py --rounds 5 --iterations 500",
    )
    parser.add_argument("--rounds", type=int, default=21, help="times that each loop runs (default: 21)")
    parser.add_argument("--iterations", type=int, default=1000, help="measured per run (default: 1000)")
    parser.add_argument("--warmup", type=int, default=200, help="iterations before them (default: 200)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: 1)")
    options = parser.parse_args(arguments)
    for name in ("rounds", "iterations", "warmup", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(options, name)}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    options: Any = parse(arguments)
    torch.set_num_threads(options.threads)
    logging.captureWarnings(True)
    times = run(options.rounds, options.warmup, options.iterations)
    print(
        f"{options.rounds} rounds of {options.iterations} iterations, {options.threads} thread(s), "
        f"torch {torch.__version__}; median [quartiles]\n"
    )
    print(table(times))


if __name__ == "__main__":
    main()
