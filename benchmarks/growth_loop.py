"""What grows with the length of a training and with the number of ranks, and what does not.

- Iterations: one training with a step that only puts scalars, timed at 10, 100, 1,000 ... iterations, with a timer and
  the writers of DefaultTrainer: the cost of an iteration, and memory, must not depend on how many there were.
- Ranks: the exchange of metrics by the code that makes it, in a process group that only pretends to be so large; calls
  and bytes are counted, what a ring makes of them is arithmetic.
- Two real ranks (gloo, DistributedDataParallel): every collective that is called from Python, counted per period.

    python benchmarks/growth_loop.py --most 100000
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from loop import BATCH, WIDTH, TinyModel
from report import Section, Table, parser, publish
from storage import resident

from drivetrain.engine import SimpleTrainer, TrainerBase, hooks
from drivetrain.events import CommonMetricPrinter, EventStorage, JSONWriter, TensorboardXWriter
from drivetrain.events.reduction import RankMetrics

PERIOD = 20
LOSSES = tuple(f"loss_{number}" for number in range(8))
COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "monitored_barrier",
    "reduce",
    "reduce_scatter",
    "scatter",
)


# Iterations


class Counting(TrainerBase):
    """Its step puts ten scalars, and notes time and memory at powers of ten."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[int, float, float]] = []

    def run_step(self) -> None:
        """One iteration."""
        iteration = self.iter
        self.storage.put_scalars(total_loss=1.0 / (iteration + 1), data_time=0.0, **dict.fromkeys(LOSSES, 0.5))
        if str(iteration).strip("0") == "1" and iteration > 1:
            self.marks.append((iteration, time.process_time(), resident()))


def lengths(most: int) -> Table:
    """The cost of an iteration at each power of ten."""
    trainer = Counting()
    with tempfile.TemporaryDirectory() as folder:
        written = [CommonMetricPrinter(most + 1), JSONWriter(Path(folder) / "metrics.json"), TensorboardXWriter(folder)]
        trainer.register_hooks([hooks.IterationTimer(), hooks.PeriodicWriter(written, PERIOD)])
        trainer.train(0, most + 1)
    table = Table(["iterations", "CPU us per iteration since the line above", "MiB"])
    for (first, start, _), (last, end, size) in zip(trainer.marks, trainer.marks[1:], strict=False):
        table.add(f"{last:,}", f"{(end - start) / (last - first) * 1e6:.1f}", f"{size:.0f}")
    return table


# Ranks, pretended


def exchange(ranks: int) -> tuple[int, int]:
    """Collectives and bytes given to them by one rank, for one period of a training with so many."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
    sizes: list[int] = []
    real = dist.all_reduce
    dist.all_reduce = lambda tensor, *args, **kwargs: (sizes.append(tensor.nbytes), _as_if(tensor, ranks))[1]
    try:
        metrics = RankMetrics(EventStorage())
        for iteration in range(PERIOD):
            metrics.add(iteration, {name: torch.tensor(1.0) for name in LOSSES}, data_time=0.001)
        metrics.reduce([0.0, 0.0])
    finally:
        dist.all_reduce = real
        dist.destroy_process_group()
    return len(sizes), sum(sizes)


def _as_if(tensor: torch.Tensor, ranks: int) -> None:
    """All ranks gave the same."""
    tensor *= ranks


def messages(most: int) -> Table:
    """What the exchange of metrics takes at 2, 4, 8 ... ranks."""
    table = Table(
        ["ranks", "collectives", "KiB given", "KiB sent by a ring", "messages of a ring", "share of gradients"]
    )
    gradients = PERIOD * 4 * 25.6e6  # of a ResNet-50 in a period
    ranks = 2
    while ranks <= most:
        calls, size = exchange(ranks)
        sent = 2 * (ranks - 1) / ranks * size
        row = f"{calls}", f"{size / 1024:.1f}", f"{sent / 1024:.1f}", f"{2 * (ranks - 1):,}", f"{size / gradients:.4%}"
        table.add(f"{ranks:,}", *row)
        ranks *= 2 if ranks < 8 else 8
    return table


# Two ranks, real


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """Within the block, count calls of collectives; those that DDP makes are not called from Python."""
    calls: Counter[str] = Counter()
    real = {name: getattr(dist, name) for name in COLLECTIVES}

    def counting(name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return real[name](*args, **kwargs)

        return call

    for name in COLLECTIVES:
        setattr(dist, name, counting(name))
    try:
        yield calls
    finally:
        for name, function in real.items():
            setattr(dist, name, function)


def train_and_count(rank: int, meeting: str, periods: int) -> None:
    """Train in one of two processes; print the collectives of so many periods, by name."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(TinyModel())
    batches = [torch.randn(BATCH, WIDTH)] * (periods + 2) * PERIOD
    trainer = SimpleTrainer(model, batches, torch.optim.SGD(model.parameters(), 1e-3), metric_period=PERIOD)
    with tempfile.TemporaryDirectory() as folder, counted() as calls:
        written = [CommonMetricPrinter(len(batches)), JSONWriter(Path(folder) / "metrics.json")]
        marks: list[Counter[str]] = []
        trainer.register_hooks(
            [
                hooks.IterationTimer(),
                hooks.PeriodicWriter(written, PERIOD) if rank == 0 else None,
                hooks.CallbackHook(after_step=lambda t: marks.append(Counter(calls))),
            ]
        )
        trainer.train(0, len(batches))
    used = marks[(periods + 1) * PERIOD - 1] - marks[PERIOD - 1]
    if rank == 0:
        print("; ".join(f"{name} {count}" for name, count in used.items()))
    dist.destroy_process_group()


def two_ranks(periods: int = 5) -> str:
    """What two ranks exchange beyond gradients."""
    code = "import sys, growth_loop as g; g.train_and_count(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent), *sys.path])
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": paths}
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            subprocess.Popen(
                [*command, str(rank), f"{folder}/meet", str(periods)],
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for rank in range(2)
        ]
        outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        return "Two ranks: failed."
    calls = outputs[0].strip() or "none"
    return f"Two ranks (gloo), collectives beyond DDP's own in {periods} periods of {PERIOD} iterations: {calls}."


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    command = parser("Costs as work grows.", "python benchmarks/growth_loop.py --most 10000 --ranks 64")
    command.add_argument("--most", type=int, default=1_000_000, help="iterations (default: 1000000)")
    command.add_argument("--ranks", type=int, default=4096, help="ranks to pretend (default: 4096)")
    options = command.parse_args(arguments)
    if options.most < 100 or options.ranks < 2:
        command.error("--most must be at least 100, --ranks at least 2")
    torch.set_num_threads(options.threads)
    logging.getLogger("drivetrain").setLevel(logging.WARNING)
    section = Section(
        "growth_loop",
        "The loop and the exchange of metrics as work grows",
        f"One training whose step puts 10 scalars, with timer, and console, JSON and TensorBoard every {PERIOD} "
        f"iterations; then the exchange of {len(LOSSES)} losses of {PERIOD} iterations, counted by the code that makes "
        "it; the gradients compared with are those of a ResNet-50.",
        [lengths(options.most), messages(options.ranks), two_ranks()],
        ("torch", "tensorboard"),
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
