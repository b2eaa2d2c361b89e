"""How the order of training samples grows with the dataset: time and memory at 10^3 to 10^8 samples.

The order of each size is made with and without groups by aspect ratio, a third of the samples being tall, and asked
for batches at random places, near the beginning and 10^9 batches on, as by a training that is resumed there. Memory is
what Python and NumPy allocate (tracemalloc), with the flags that say which samples are wide left out: they come from
the dataset. Beside it stands a permutation of an epoch as ``torch.randperm`` makes it, which samplers store.
"""

from __future__ import annotations

import argparse
import statistics
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from report import Section, Table, clock, interleave, parser, publish, spread

from drivetrain.data.loader import TrainLoader
from drivetrain.data.order import GlobalOrder

BATCH, LATE = 16, 10**9


def flags(size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which samples are wide."""
    wide = np.ones(size, dtype=bool)
    wide[::3] = False
    return wide


def memory(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that are held while the result of ``work`` is, and at the peak."""
    tracemalloc.start()
    result = work()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return held, peak


class Numbers:
    """A dataset of ``size`` records that are numbers."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        """The size."""
        return self.size

    def __getitem__(self, index: int) -> int:
        """The index."""
        return index


def resumed(order: GlobalOrder) -> int:
    """The first sample of a loader that goes on at a late batch."""
    loader = TrainLoader(Numbers(order.num_samples), order)  # type: ignore[arg-type]
    loader.load_state_dict({**loader.state_dict(), "batches": LATE})
    return int(next(loader)[0])


def time_batches(orders: dict[str, GlobalOrder], rounds: int, count: int) -> dict[str, list[float]]:
    """Microseconds of CPU per batch of each order, early and late, and of the first batch after a resume."""
    places = np.random.default_rng(0).integers(1000, size=count).tolist()

    def ask(order: GlobalOrder, start: int) -> None:
        for place in places:
            order.batch(start + place)

    cases = {}
    for name, order in orders.items():
        cases[f"{name} early"] = lambda order=order: clock(lambda: ask(order, 0))
        cases[f"{name} late"] = lambda order=order: clock(lambda: ask(order, LATE))
        cases[f"{name} resume"] = lambda order=order: clock(lambda: [resumed(order) for _ in places])
    return {name: [s.cpu / count * 1e6 for s in found] for name, found in interleave(cases, rounds).items()}


def table(sizes: list[int], rounds: int, count: int) -> tuple[Table, str]:
    """One row per size and kind, and what it says about growth."""
    columns = ["samples", "order", "made in ms", "held", "peak", "us per batch, early", "late", "first after resume"]
    made = Table(columns)
    medians: dict[str, list[float]] = {}
    for size in sizes:
        wide = flags(size)
        kinds: dict[str, Callable[[], GlobalOrder]] = {
            "one group": lambda size=size: GlobalOrder(size, BATCH, 0),
            "wide and tall": lambda size=size, wide=wide: GlobalOrder(size, BATCH, 0, groups=wide),
        }
        orders = {name: kind() for name, kind in kinds.items()}
        times = time_batches(orders, rounds, count)
        for name, kind in kinds.items():
            seconds = clock(kind).cpu
            cells = [spread(times[f"{name} {when}"], 0) for when in ("early", "late", "resume")]
            made.add(f"{size:,}", name, f"{seconds * 1e3:.2f}", *map(as_text, memory(kind)), *cells)
            medians.setdefault(name, []).append(statistics.median(times[f"{name} late"]))
        seconds = clock(lambda size=size: torch.randperm(size)).cpu
        made.add(
            f"{size:,}", "torch.randperm", f"{seconds * 1e3:.2f}", as_text(8 * size), as_text(8 * size), "", "", ""
        )
    grown = ", ".join(f"{values[-1] / values[0]:.2f} ({name})" for name, values in medians.items())
    return made, f"A late batch of the largest dataset takes as long as one of the smallest times {grown}."


def as_text(size: int) -> str:
    """A number of bytes."""
    return f"{size / 1e6:.2f} MB" if size >= 10_000 else f"{size:,} B"


def section(options: argparse.Namespace) -> Section:
    """What was found."""
    sizes = [10**power for power in range(3, options.largest + 1)]
    made, growth = table(sizes, options.rounds, options.batches)
    method = (
        f"Batches of {BATCH}; {options.rounds} interleaved rounds of {options.batches} batches at random places; CPU "
        "time, median [quartiles]. Samples of one group take no memory; of two, a bit each, or less."
    )
    return Section(
        "growth_data", "How the data order grows with the dataset", method, [made, growth], ("torch", "numpy")
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("The data order at 10^3 to 10^8 samples.", "python benchmarks/growth_data.py --largest 6 --rounds 3")
    made.add_argument("--largest", type=int, default=8, help="power of ten of the largest dataset (default: 8)")
    made.add_argument("--batches", type=int, default=50, help="batches per round (default: 50)")
    options = made.parse_args(arguments)
    if options.largest < 3:
        made.error(f"--largest must be at least 3, not {options.largest}")
    torch.set_num_threads(options.threads)
    publish(section(options), options.document)


if __name__ == "__main__":
    main()
