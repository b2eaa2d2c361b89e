"""What recording scalars costs: the time to put 50 of them per iteration, and memory over a long training.

The time is that of a loop which puts scalars and does nothing else; a writer reads what is new every 20 iterations, as
JSONWriter does, in those cases that say so. Memory is the process' resident set, read in a process of its own.

    python benchmarks/storage.py --rounds 11
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from report import Sample, Section, Table, clock, interleave, parser, publish, spread

from drivetrain.events import EventStorage, JSONWriter
from drivetrain.events.writers import FreshScalars

SCALARS = 50
TARGET = 1.0  # us for each scalar
PERIOD = 20
NAMES = tuple(f"loss_{number}" for number in range(SCALARS))

Put = Callable[[EventStorage], None]


def one_by_one(storage: EventStorage) -> None:
    """50 calls of ``put_scalar`` with floats."""
    for name in NAMES:
        storage.put_scalar(name, 0.5)


def together(storage: EventStorage, scalars: dict[str, float]) -> None:
    """One call of ``put_scalars`` with 50 floats."""
    storage.put_scalars(**scalars)


def tensors(storage: EventStorage, value: torch.Tensor) -> None:
    """50 calls of ``put_scalar`` with a tensor on the CPU."""
    for name in NAMES:
        storage.put_scalar(name, value)


def puts(put: Put, iterations: int, *, read: bool) -> Sample:
    """Seconds per scalar."""
    storage, fresh = EventStorage(), FreshScalars()

    def loop() -> None:
        for storage.iter in range(iterations):
            put(storage)
            if read and (storage.iter + 1) % PERIOD == 0:
                fresh.read(storage)

    sample = clock(loop)
    return Sample(sample.cpu / iterations / SCALARS, sample.wall / iterations / SCALARS)


CASES: dict[str, tuple[Put, bool]] = {
    "put_scalar": (one_by_one, False),
    "put_scalar, read": (one_by_one, True),
    "put_scalar of tensors, read": (partial(tensors, value=torch.tensor(0.5)), True),
    "put_scalars, read": (partial(together, scalars=dict.fromkeys(NAMES, 0.5)), True),
}


def resident() -> float:
    """MiB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def watch_memory(iterations: int, scalars: int, written: bool) -> None:
    """Print the growth of memory in MiB at tenths of a long loop; with ``written``, JSONWriter writes each period."""
    names = [f"loss_{number}" for number in range(scalars)]
    with tempfile.TemporaryDirectory() as folder, EventStorage() as storage:
        writer = JSONWriter(Path(folder) / "metrics.json")
        start = resident()
        for storage.iter in range(iterations):
            for number, name in enumerate(names):
                storage.put_scalar(name, storage.iter / (number + 1))
            if written and (storage.iter + 1) % PERIOD == 0:
                writer.write()
            if (storage.iter + 1) % (iterations // 10) == 0:
                gc.collect()
                print(f"{resident() - start:.2f}")


def growth(iterations: int, scalars: int, written: bool) -> list[float]:
    """What :func:`watch_memory` prints in a new process."""
    code = f"import storage; storage.watch_memory({iterations}, {scalars}, {written})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return [float(line) for line in result.stdout.split()]


def memory(iterations: int, scalars: int) -> list[Table | str]:
    """Growth with and without a writer."""
    table = Table(["memory, MiB above the start", *(f"{iterations // 10 * tenth:,}" for tenth in (1, 2, 3, 5, 7, 10))])
    late = []
    for label, written in (("nobody reads", False), ("JSONWriter each 20 iterations", True)):
        grown = growth(iterations, scalars, written)
        table.add(label, *(f"{grown[tenth - 1]:.1f}" for tenth in (1, 2, 3, 5, 7, 10)))
        late.append(grown[-1] - grown[1])
    flat = "flat" if max(late) < 1.0 else "not flat"
    return [
        table,
        f"{scalars} scalars in each of {iterations:,} iterations. From a fifth of them to the end memory grows by "
        f"{max(late):.2f} MiB: {flat}. A history keeps 10,000 to 12,500 values of 16 bytes, and a running sum.",
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    command = parser("The cost of recording scalars.", "python benchmarks/storage.py --rounds 5 --memory 20000")
    command.add_argument("--iterations", type=int, default=500, help="per case and round (default: 500)")
    command.add_argument("--memory", type=int, default=100_000, help="iterations of the long loop (default: 100000)")
    options = command.parse_args(arguments)
    if options.iterations < PERIOD or options.memory < 10:
        command.error(f"--iterations must be at least {PERIOD}, --memory at least 10")
    torch.set_num_threads(options.threads)
    cases = {label: partial(puts, put, options.iterations, read=read) for label, (put, read) in CASES.items()}
    table = Table([f"{SCALARS} scalars per iteration", "CPU us per scalar", "at most", "reached"])
    for label, samples in interleave(cases, options.rounds).items():
        times = [sample.cpu * 1e6 for sample in samples]
        reached = "yes" if statistics.median(times) <= TARGET else "no"
        table.add(label, spread(times, 3), f"{TARGET:.0f}", reached)
    parts: list[Table | str] = [table]
    if Path("/proc/self/statm").exists():
        parts += memory(options.memory, 10)
    section = Section(
        "storage",
        "Recording scalars",
        f"{options.rounds} rounds of {options.iterations} iterations; median [quartiles]. Nothing but the storage is "
        f"at work; 'read' means that what is new is read, and smoothed, every {PERIOD} iterations.",
        parts,
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
