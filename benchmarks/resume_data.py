"""How long it takes to go on in the data where a training stopped: time to the first task, and images decoded.

A loader over many records, with aspect-ratio grouping, is made and put to an iteration deep in the training. The
images are not files: the reader counts its calls and returns a constant, so that what is measured is the loader alone.

    python benchmarks/resume_data.py --images 100000 --iteration 90000 --batch 16
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--iteration", type=int, default=90_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    records = [
        {"file_name": f"{k}.jpg", "image_id": k, "height": 480 if k % 3 else 640, "width": 640 if k % 3 else 480}
        for k in range(options.images)
    ]
    print("grouping  make loader (s)  to the iteration (s)  decoded  first batch (s)  decoded")
    for grouping in (False, True):
        for _ in range(options.rounds):
            mapper = CountingMapper()
            start = time.perf_counter()
            loader = build_detection_train_loader(
                records, mapper, total_batch_size=options.batch, aspect_ratio_grouping=grouping, seed=0
            )
            made = time.perf_counter()
            assert isinstance(loader, TrainLoader)
            state = {**loader.state_dict(), "batches": options.iteration}
            loader.load_state_dict(state)
            ready, before = time.perf_counter(), mapper.calls
            next(loader)
            done = time.perf_counter()
            print(
                f"{grouping!s:8}  {made - start:15.3f}  {ready - made:20.5f}  {before:7}  {done - ready:15.5f}  "
                f"{mapper.calls:7}"
            )


if __name__ == "__main__":
    main()
