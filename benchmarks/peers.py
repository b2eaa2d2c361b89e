"""What the training loops of other libraries cost, beside the engine's and a bare PyTorch loop.

Same tiny model, batch and optimizer for all; the loader takes the times, as in ``loop.py``. What is not installed, or
does not run with what is, is left out and said; ``pip install -e '.[bench]'`` installs the peers, best into an
environment of their own.

    python benchmarks/peers.py --rounds 9 --iterations 500
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
from collections.abc import Callable

import torch
from loop import BATCH, WIDTH, Feed, TinyModel, bare, default_trainer, simple_trainer
from peer_loops import PEERS, Loop, quiet
from report import Sample, Section, Table, interleave, parser, publish, spread


def measured(loop: Loop, warmup: int, iterations: int) -> Sample:
    """CPU and wall seconds per iteration of one loop, with a new model; what it prints goes nowhere."""
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    feed = Feed(torch.randn(BATCH, WIDTH), warmup, iterations)
    gc.collect()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        loop(feed, model, optimizer)
    cpu, wall = feed.microseconds()
    return Sample(cpu / 1e6, wall / 1e6)


def runnable() -> tuple[dict[str, Loop], list[str]]:
    """The loops that run here, by name, and why the others do not."""
    loops: dict[str, Loop] = {
        "bare loop": bare,
        "drivetrain SimpleTrainer": simple_trainer,
        "drivetrain DefaultTrainer, everything": default_trainer,
    }
    missing = []
    for name, (package, loop) in PEERS.items():
        if not importlib.util.find_spec(package):
            missing.append(f"{name} (not installed)")
            continue
        try:
            measured(loop, 1, 3)
        except Exception as error:  # a library that does not run with this PyTorch is a result, too
            missing.append(f"{name} ({type(error).__name__}: {error})")
        else:
            loops[name] = loop
    return loops, missing


def table(samples: dict[str, list[Sample]]) -> Table:
    """Microseconds of CPU and wall time added to the bare loop, and ratios, by name."""
    made = Table(["loop", "CPU us per iteration", "CPU us added", "CPU, ratio to bare", "wall us added"])
    base = samples["bare loop"]
    for name, own in samples.items():
        pairs = list(zip(own, base, strict=True))
        made.add(
            name,
            spread([s.cpu * 1e6 for s in own]),
            spread([(s.cpu - b.cpu) * 1e6 for s, b in pairs]),
            spread([s.cpu / b.cpu for s, b in pairs], 2),
            spread([(s.wall - b.wall) * 1e6 for s, b in pairs]),
        )
    return made


def main() -> None:
    """Measure and print."""
    line = parser(
        "Time per iteration of the training loops of several libraries over a bare PyTorch loop.",
        "python benchmarks/peers.py --rounds 3 --iterations 200",
    )
    line.add_argument("--iterations", type=int, default=500, help="measured per run (default: 500)")
    line.add_argument("--warmup", type=int, default=200, help="iterations before them (default: 200)")
    options = line.parse_args()
    torch.set_num_threads(options.threads)
    quiet()
    loops, missing = runnable()
    cases: dict[str, Callable[[], Sample]] = {
        name: lambda loop=loop: measured(loop, options.warmup, options.iterations)  # type: ignore[misc]
        for name, loop in loops.items()
    }
    samples = interleave(cases, options.rounds)
    section = Section(
        key="peers",
        title="What other training loops cost",
        method=(
            "A model of two linear layers of 16, batches of 4, SGD, one thread; the loader takes the time at two of "
            f"its batches, {options.iterations} apart. {options.rounds} rounds, interleaved; median [quartiles]."
        ),
        parts=[table(samples), f"Not measured: {'; '.join(missing)}." if missing else ""],
        libraries=["torch", *sorted({_distribution(PEERS[name][0]) for name in loops if name in PEERS})],
    )
    section.parts = [part for part in section.parts if part]
    publish(section, options.document)


def _distribution(package: str) -> str:
    return {"ignite": "pytorch-ignite"}.get(package, package)


if __name__ == "__main__":
    main()
