"""What it costs to bring a batch from a loader's process to the training.

One worker process gives copies of the same batch of images and boxes again and again. The CPU time of both processes,
less that of making and reading the copies in one process, is that of the handover. The trainer reads a byte of every
page, as a copy to a device would. Beside this package's pool of workers stands torch's ``DataLoader`` with the same
batch and a collate function that leaves the list of samples as it is, as detection needs it.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from report import Sample, Section, Table, interleave, parser, publish, spread
from torch.utils.data import DataLoader

from drivetrain.data.pool import WorkerPool
from drivetrain.structures import Boxes, Instances

TARGET = 0.5  # ms an image
PAGE, OBJECTS = 4096, 18

Batch = list[dict[str, Any]]


@dataclass
class Source:
    """Gives one batch of ``images`` images; its first sample tells what CPU time the process has used."""

    images: int
    height: int
    width: int

    def __post_init__(self) -> None:
        size = (self.height, self.width)
        generator = torch.Generator().manual_seed(0)
        self.batch: Batch = [
            {
                "image": torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator),
                "instances": Instances(
                    size,
                    gt_boxes=Boxes(torch.rand(OBJECTS, 4, generator=generator)),
                    gt_classes=torch.randint(0, 80, (OBJECTS,), generator=generator),
                ),
                "image_id": number,
                "file_name": f"images/{number:012d}.jpg",
            }
            for number in range(self.images)
        ]

    def __len__(self) -> int:
        """Many."""
        return 1 << 30

    def __getitems__(self, task: Any) -> Batch:
        """A copy of the batch: what was sent once lies in shared memory, and would cost less to send again."""
        samples = [copy.deepcopy(sample) for sample in self.batch]
        return [{**samples[0], "cpu": time.process_time()}, *samples[1:]]

    def describe(self, task: Any) -> str:
        """Nothing."""
        return ""


def pool_batches(source: Source) -> Generator[Batch]:
    """The batches by way of `WorkerPool`."""
    pool = WorkerPool(source, 1)
    try:
        pool.feed(iter(range(1 << 30)))
        yield from pool
    finally:
        pool.stop()


def loader_batches(source: Source) -> Generator[Batch]:
    """The batches by way of ``DataLoader``."""
    loader: DataLoader[Any] = DataLoader(source, source.images, num_workers=1, collate_fn=as_it_is)  # type: ignore[arg-type]
    yield from loader


def as_it_is(batch: Batch) -> Batch:
    """The list of samples."""
    return batch


def one_process(source: Source) -> Generator[Batch]:
    """The batches without any handover: what reading them costs."""
    while True:
        yield source.__getitems__(None)


def read(batch: Batch) -> int:
    """A byte of every page."""
    return sum(int(sample["image"].view(-1)[::PAGE].sum()) for sample in batch)


def measure(batches: Iterator[Batch], images: int, count: int, shared: bool) -> Sample:
    """CPU seconds of both processes, and wall seconds, per image; ``shared``: the worker is this process."""
    for _ in range(8):  # the worker's memory and the number of batches ahead are then as they stay
        batch = next(batches)
        read(batch)
    cpu, wall, theirs = time.process_time(), time.perf_counter(), batch[0]["cpu"]
    for _ in range(count):
        batch = next(batches)
        read(batch)
    spent = time.process_time() - cpu + (0.0 if shared else batch[0]["cpu"] - theirs)
    return Sample(spent / (count * images), (time.perf_counter() - wall) / (count * images))


WAYS: dict[str, Callable[[Source], Generator[Batch]]] = {
    "in one process": one_process,
    "torch's DataLoader": loader_batches,
    "drivetrain's WorkerPool": pool_batches,
}


def table(sources: list[Source], rounds: int, count: int) -> tuple[Table, list[float]]:
    """The figures, and the median that the pool adds to each source, in ms per image."""
    made = Table(["images", "way", "CPU ms per image", "added", "wall ms per image"])
    medians = []
    for source in sources:
        samples = measure_ways(source, rounds, count)
        for name, found in samples.items():
            added = [(a.cpu - b.cpu) * 1e3 for a, b in zip(found, samples["in one process"], strict=True)]
            cpu, wall = ([s[kind] * 1e3 for s in found] for kind in (0, 1))
            size = f"{source.images} of {source.width}x{source.height}"
            made.add(size, name, spread(cpu, 3), spread(added, 3), spread(wall, 3))
        medians.append(statistics.median(added))  # the pool comes last
    return made, medians


def measure_ways(source: Source, rounds: int, count: int) -> dict[str, list[Sample]]:
    """The figures of each way, in rounds; the processes run all the time."""
    running = {name: way(source) for name, way in WAYS.items()}

    def case(name: str) -> Callable[[], Sample]:
        return lambda: measure(running[name], source.images, count, name == "in one process")

    samples = interleave({name: case(name) for name in WAYS}, rounds)
    for batches in running.values():
        batches.close()
    return samples


def section(options: argparse.Namespace) -> Section:
    """What was found."""
    sources = [Source(options.images, 480, 640), Source(options.images, 800, 1067)]
    made, medians = table(sources, options.rounds, options.batches)
    reached = "reached" if max(medians) <= TARGET else "missed"
    verdict = f"Aimed at: {TARGET} ms an image at most, {reached} ({', '.join(f'{m:.3f}' for m in medians)} ms)."
    method = (
        f"{options.rounds} interleaved rounds of {options.batches} batches, one worker; CPU time is that of the "
        "worker and the trainer together; median [quartiles]; differences within a round."
    )
    return Section("handover", "What it costs to bring a batch from a worker to the training", method, [made, verdict])


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("From a worker to the training.", "python benchmarks/handover.py --rounds 5 --batches 20")
    made.add_argument("--batches", type=int, default=40, help="batches per round (default: 40)")
    made.add_argument("--images", type=int, default=16, help="images per batch (default: 16)")
    options = made.parse_args(arguments)
    torch.set_num_threads(options.threads)
    publish(section(options), options.document)


if __name__ == "__main__":
    main()
