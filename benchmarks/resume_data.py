"""How long it takes to go on in the data where a training stopped: time to the first batch, and images decoded.

A loader over many records is made and put to an iteration deep in the training. The images are not files: the mapper
counts its calls and returns the record, so that what is measured is the loader alone.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np
from report import Section, Table, parser, publish, spread

from drivetrain.data.build import build_detection_train_loader
from drivetrain.data.loader import TrainLoader


class CountingMapper:
    """Counts the images it is asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """The record, as if its image had been read."""
        self.calls += 1
        return record


def resume(
    records: list[dict[str, Any]], grouping: bool, batch: int, iteration: int
) -> tuple[float, float, float, int]:
    """Milliseconds to make the loader, to put it to the iteration and to its first batch; images decoded before it."""
    mapper = CountingMapper()
    times = [time.perf_counter()]
    loader = build_detection_train_loader(
        records, mapper, total_batch_size=batch, aspect_ratio_grouping=grouping, seed=0
    )
    times.append(time.perf_counter())
    assert isinstance(loader, TrainLoader)
    loader.load_state_dict({**loader.state_dict(), "batches": iteration})
    times.append(time.perf_counter())
    decoded = mapper.calls
    next(loader)
    times.append(time.perf_counter())
    made, put, first = ((b - a) * 1e3 for a, b in itertools.pairwise(times))
    return made, put, first, decoded


def section(options: argparse.Namespace) -> Section:
    """What was found."""
    records = [
        {"file_name": f"{k}.jpg", "image_id": k, "height": 480 if k % 3 else 640, "width": 640 if k % 3 else 480}
        for k in range(options.images)
    ]
    table = Table(
        ["aspect-ratio grouping", "loader made, ms", "put to the iteration, ms", "first batch, ms", "decoded"]
    )
    for grouping in (False, True):
        found = [resume(records, grouping, options.batch, options.iteration) for _ in range(options.rounds)]
        made, put, first, decoded = zip(*found, strict=True)
        table.add("yes" if grouping else "no", spread(made, 1), spread(put, 3), spread(first, 2), max(decoded))
    method = (
        f"{options.images:,} records in a list, which the loader packs when it is made; batches of {options.batch}; "
        f"iteration {options.iteration:,}; {options.rounds} rounds; wall time, median [quartiles]. The last column is "
        "the number of images decoded before the first batch."
    )
    return Section("resume_data", "How long going on in the data takes", method, [table], ("torch", "numpy"))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("Going on in the data.", "python benchmarks/resume_data.py --images 10000 --rounds 3")
    made.add_argument("--images", type=int, default=100_000, help="records (default: 100,000)")
    made.add_argument("--iteration", type=int, default=90_000, help="where to go on (default: 90,000)")
    made.add_argument("--batch", type=int, default=16, help="images per batch (default: 16)")
    options = made.parse_args(arguments)
    publish(section(options), options.document)


if __name__ == "__main__":
    main()
