"""What the engine costs: time per iteration of its loops over a bare PyTorch loop with the same tiny model.

All loops run the same model, optimizer and batch:

- ``bare``: fetch, forward, zero_grad, backward, step, and nothing else;
- ``SimpleTrainer``: the engine's loop without hooks, its losses recorded and kept from the weights if not finite;
- ``SimpleTrainer, 50 idle hooks``: with hooks that override nothing;
- ``DefaultTrainer``: with all its default hooks and writers (console, JSON, TensorBoard), the objects given to it;
- the same without writers, and without any hook, which shows what of it costs what.

The loader itself takes the times, at two of its batches, so that building, warm-up and the end of a training are not in
them, and nothing is added to one loop that the others do not have.

    python benchmarks/loop.py --rounds 21 --iterations 1000
"""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from report import Sample, Section, Table, interleave, parser, publish, spread
from torch import nn

WIDTH = 16
BATCH = 4
REFERENCE = 89.0  # us of the bare loop where the targets come from
TARGETS = {"SimpleTrainer": 8.0, "DefaultTrainer": 16.0}  # us that may be added there


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

    batch: Any
    warmup: int
    iterations: int
    wait: Callable[[], object] = lambda: None  # until what was begun is done, before a time is taken
    times: list[Sample] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.total):
            if number in (self.warmup, self.warmup + self.iterations):
                self.wait()
                self.times.append(Sample(time.process_time(), time.perf_counter()))
            yield self.batch

    @property
    def total(self) -> int:
        """Batches in all, one after the second time included."""
        return self.warmup + self.iterations + 1

    def microseconds(self) -> tuple[float, float]:
        """CPU and wall time per iteration."""
        start, end = self.times
        return (end.cpu - start.cpu) / self.iterations * 1e6, (end.wall - start.wall) / self.iterations * 1e6


Loop = Callable[[Feed, nn.Module, torch.optim.Optimizer], None]


def bare(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """The loop that one would write by hand."""
    for batch in feed:
        losses = model(batch)
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def simple_trainer(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer, *, hooks: int = 0) -> None:
    """SimpleTrainer, with so many hooks that override nothing."""
    from drivetrain.engine.train_loop import HookBase, SimpleTrainer

    trainer = SimpleTrainer(model, feed, optimizer)
    trainer.register_hooks([HookBase() for _ in range(hooks)])
    trainer.train(0, feed.total)


def default_trainer(feed: Feed, model: nn.Module, optimizer: torch.optim.Optimizer, **without: Any) -> None:
    """DefaultTrainer with everything it has by default; no checkpoint falls into the measured part.

    ``without`` has methods that make its parts, by name, and what they return in its place.
    """
    from drivetrain.engine.defaults import DefaultTrainer, get_cfg

    trainer = type("Trainer", (DefaultTrainer,), {name: lambda self, made=made: made for name, made in without.items()})
    with tempfile.TemporaryDirectory() as folder:
        cfg = get_cfg()
        cfg.OUTPUT_DIR = folder
        cfg.MODEL.DEVICE = "cpu"
        cfg.SOLVER.MAX_ITER = feed.total
        cfg.SOLVER.CHECKPOINT_PERIOD = 10 * feed.total
        trainer(cfg, model=model, optimizer=optimizer, train_loader=feed).train()


IDLE = "SimpleTrainer, 50 idle hooks"
NO_WRITERS, NO_HOOKS = "DefaultTrainer, no writers", "DefaultTrainer, no hooks"
LOOPS: dict[str, Loop] = {
    "bare": bare,
    "SimpleTrainer": simple_trainer,
    IDLE: partial(simple_trainer, hooks=50),
    "DefaultTrainer": default_trainer,
    NO_WRITERS: partial(default_trainer, build_writers=[]),
    NO_HOOKS: partial(default_trainer, build_hooks=[]),
}


def measure(loop: Loop, warmup: int, iterations: int) -> Sample:
    """Seconds per iteration of one loop, with a new model; what it prints goes nowhere."""
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    feed = Feed(torch.randn(BATCH, WIDTH), warmup, iterations)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        loop(feed, model, optimizer)
    cpu, wall = feed.microseconds()
    return Sample(cpu / 1e6, wall / 1e6)


def added(own: Sequence[Sample], base: Sequence[Sample], kind: int = 0) -> list[float]:
    """Microseconds more than the base in each round, of CPU time (0) or wall time (1)."""
    return [(a[kind] - b[kind]) * 1e6 for a, b in zip(own, base, strict=True)]


def tables(samples: dict[str, list[Sample]]) -> list[Table | str]:
    """One row for each loop, and what that means for the targets."""
    base = samples["bare"]
    table = Table(["loop", "CPU us per iteration", "added", "ratio to bare", "added wall us"])
    for name, own in samples.items():
        ratios = [a.cpu / b.cpu for a, b in zip(own, base, strict=True)]
        cpu = spread([s.cpu * 1e6 for s in own])
        table.add(name, cpu, spread(added(own, base)), spread(ratios, 3), spread(added(own, base, kind=1)))
    scale = REFERENCE / (statistics.median(s.cpu for s in base) * 1e6)
    goals = Table([f"added, with a bare loop of {REFERENCE:.0f} us", "us", "at most", "reached"])
    for name, target in TARGETS.items():
        scaled = statistics.median(added(samples[name], base)) * scale
        goals.add(name, f"{scaled:.1f}", f"{target:.0f}", "yes" if scaled <= target else "no")
    idle = added(samples[IDLE], samples["SimpleTrainer"])
    low, high = min(statistics.quantiles(idle, n=4)[::2]), max(statistics.quantiles(idle, n=4)[::2])
    verdict = "not measurable" if low <= 0 <= high else "more than the noise"
    writers, hooks, alone = (
        statistics.median(added(samples[more], samples[less]))
        for more, less in (("DefaultTrainer", NO_WRITERS), (NO_WRITERS, NO_HOOKS), (NO_HOOKS, "SimpleTrainer"))
    )
    reason = (
        f"Of what DefaultTrainer adds, {writers:.0f} us come with its writers, which write every 20 iterations, "
        f"{hooks:.0f} with its other hooks (timer, schedule, checkpoints, evaluation, watchdog), {alone:.0f} with what "
        "it remembers of each step to make it again. Timed within that loop, writers and hooks take three fifths of "
        "that: the rest is the model's step being slower after them, as they push its code out of the processor's "
        "caches, into which a step of a fifth of a millisecond fits. What is added to the step of a real detector is "
        "lost in its noise."
    )
    return [table, goals, f"50 idle hooks add {spread(idle, 2)} us to SimpleTrainer: {verdict}.", reason]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    command = parser("Time per iteration of the engine's loops over a bare PyTorch loop.", "python benchmarks/loop.py")
    command.add_argument("--iterations", type=int, default=1000, help="measured per run (default: 1000)")
    command.add_argument("--warmup", type=int, default=200, help="iterations before them (default: 200)")
    options = command.parse_args(arguments)
    if options.iterations < 1 or options.warmup < 1 or options.rounds < 2:
        command.error("--iterations and --warmup must be at least 1, --rounds at least 2")
    torch.set_num_threads(options.threads)
    logging.captureWarnings(True)
    cases = {name: partial(measure, loop, options.warmup, options.iterations) for name, loop in LOOPS.items()}
    section = Section(
        "loop",
        "The loop over a bare PyTorch loop",
        f"{options.rounds} rounds of {options.iterations} iterations, {options.threads} thread(s); median [quartiles] "
        "of what is added within a round. Two linear layers, a batch of 4, SGD; DefaultTrainer with all default hooks "
        "and writers. The targets were set where the bare loop takes another time, so the last table is scaled to it.",
        tables(interleave(cases, options.rounds)),
        ("torch", "tensorboard"),
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
