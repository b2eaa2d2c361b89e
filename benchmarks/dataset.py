"""What a large annotated dataset costs: opening it, an item of it, and memory for each process that uses it.

A COCO file is written, with empty image files, and registered as a user's own would be. Each figure is taken in a new
process. Memory is PSS, the share of a process in what it has in memory, of which pages that n processes map count 1/n
each (Linux), without the code of libraries, which other programs map too. Of ranks it is what they have above ranks
that did not open the dataset, of extra workers what all processes together have more. Ranks and workers have read
records from all over the dataset by then; Linux maps 16 pages at a time, so that they have mapped nearly all of it.

The conversion of a large file takes minutes. With ``--repeat`` a small one is converted, and its columns are laid end
to end as often, as if they had come from one file: the store on disk has the format and the size of the large one's.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from report import Section, Table, parser, publish, spread

from drivetrain.data.build import build_detection_train_loader
from drivetrain.data.catalog import DatasetCatalog
from drivetrain.data.column_builder import pack_records
from drivetrain.data.formats import coco_records
from drivetrain.data.formats.coco import register_coco_instances
from drivetrain.data.formats.coco_records import convert_coco
from drivetrain.data.loader import TrainLoader
from drivetrain.data.records import get_detection_dataset_dicts
from drivetrain.data.store import RecordStore

SECONDS, MEGABYTES = 2.0, 20.0  # to open it, for each extra process
NAME, CLASSES = "big", 80
READ = 20_000  # records that each process reads
BATCH = 16
CHUNK = 100_000  # annotations that are made at a time
spawn = multiprocessing.get_context("spawn")


def write_dataset(folder: Path, images: int, objects: int, polygons: bool) -> Path:
    """A COCO file with about ``objects`` annotations an image, in random order; its image files are empty."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    path = folder / "annotations.json"
    with open(path, "w") as file:
        categories = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
        file.write(f'{{"categories": {json.dumps(categories)}, "images": [')
        for number in range(images):
            name = f"{number:012d}.jpg"
            os.close(os.open(folder / "images" / name, os.O_CREAT | os.O_WRONLY))
            height, width = (480, 640) if number % 3 else (640, 480)
            entry = {"id": number + 1, "file_name": name, "height": height, "width": width}
            file.write(("," if number else "") + json.dumps(entry))
        file.write('], "annotations": [')
        for start in range(0, images * objects, CHUNK):
            chunk = _annotations(start, min(CHUNK, images * objects - start), images, rng, polygons)
            file.write(("," if start else "") + ",".join(chunk))
        file.write("]}")
    return path


def _annotations(start: int, count: int, images: int, rng: np.random.Generator, polygons: bool) -> list[str]:
    """Some annotations of random images, as JSON; coordinates in hundredths of a pixel, as in COCO files."""
    boxes = (rng.random((count, 4)) * (200, 200, 250, 250) + 5).round(2)
    image_ids = (rng.integers(images, size=count) + 1).tolist()
    classes = (rng.integers(CLASSES, size=count) + 1).tolist()
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([1 + np.cos(turn), 1 + np.sin(turn)], axis=1) / 2
    found = []
    for number, (image, label, (x, y, width, height)) in enumerate(
        zip(image_ids, classes, boxes.tolist(), strict=True), start + 1
    ):
        area = round(width * height, 2)
        outline = ((x, y) + (width, height) * circle).round(2).reshape(-1).tolist() if polygons else []
        found.append(
            f'{{"id": {number}, "image_id": {image}, "category_id": {label}, "bbox": [{x}, {y}, {width}, {height}], '
            f'"area": {area}, "iscrowd": 0, "segmentation": [{outline if polygons else ""}]}}'
        )
    return found


def end_to_end(store: RecordStore, times: int) -> RecordStore:
    """A store with the records of another one several times; each time their image ids go on."""
    columns = pack_records(store)
    rows, starts, polygons = columns["records"], columns["starts"], columns["polygons"]
    ends = rows[-1].tolist()[2:]  # of the record text, of its further keys, of the annotations
    steps = {"records": (0, len(store), *ends), "starts": starts[-1].tolist(), "polygons": polygons[-1]}
    laid = {name: np.concatenate([column] * times) for name, column in columns.items() if name not in steps}
    for name, step in steps.items():
        parts = [columns[name][:-1] + np.multiply(step, number) for number in range(times)]
        last = columns[name][-1:] + np.multiply(step, times - 1)
        laid[name] = np.concatenate([*parts, last]).astype(np.int32)
    return RecordStore(laid, facts=store.facts)


def register(path: Path) -> None:
    """Register the dataset in this process."""
    logging.disable(logging.INFO)
    register_coco_instances(NAME, {}, str(path), str(path.parent / "images"))


class RecordMapper:
    """Gives the record, as if its image had been read, so that only the dataset is measured."""

    pure = True

    def __call__(self, record: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """The record."""
        return record


def make_loader(workers: int) -> TrainLoader:
    """A training loader over the dataset as a training makes it."""
    records = get_detection_dataset_dicts(NAME)
    loader = build_detection_train_loader(
        records, RecordMapper(), total_batch_size=BATCH, aspect_ratio_grouping=True, num_workers=workers, seed=0
    )
    assert isinstance(loader, TrainLoader)
    return loader


def open_it(path: Path, repeat: int = 1) -> dict[str, float]:
    """Seconds until the records can be read, and until the first batch is there; what the process peaks at.

    With ``repeat``, a store that is made here has the records of the file so many times.
    """
    register(path)
    if repeat > 1:
        coco_records.convert_coco = lambda file, images: end_to_end(convert_coco(file, images), repeat)
    start, cpu = time.perf_counter(), time.process_time()
    store = DatasetCatalog.store(NAME)
    opened, cpu = time.perf_counter(), time.process_time() - cpu
    next(make_loader(0))
    ready = time.perf_counter()
    size: float = store.nbytes  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"open": opened - start, "cpu": cpu, "batch": ready - start, "peak": peak, "store": size / 1e6}
    return {**found, "converted": repeat == 1}


def time_items(path: Path) -> dict[str, float]:
    """Microseconds of CPU for a record at a random place, the first time and when its pages have been mapped."""
    register(path)
    store = DatasetCatalog.store(NAME)
    places = np.random.default_rng(1).integers(len(store), size=READ).tolist()
    found = []
    for _ in range(2):
        start = time.process_time()
        for place in places:
            store[place]
        found.append((time.process_time() - start) / len(places) * 1e6)
    return {"first": found[0], "again": found[1]}


def be_rank(path: Path | None, workers: int) -> tuple[Any, dict[str, float]]:
    """Be a process that trains: read records as it would; the loader, to be kept, and nothing to tell."""
    if path is None:
        return None, {}
    register(path)
    loader = make_loader(workers)
    for _ in range(READ * max(workers, 1) // BATCH):
        next(loader)
    return loader, {}


def _run(function: Callable[..., Any], arguments: tuple[Any, ...], connection: Connection) -> None:
    result = function(*arguments)
    connection.send(result[1] if isinstance(result, tuple) else result)
    connection.recv()  # what was made stays until memory has been looked at
    if isinstance(result, tuple) and result[0] is not None:
        result[0].close()


class Other:
    """A process that runs a function, and then stays until it is dismissed."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_run, args=(function, arguments, theirs))
        self.process.start()
        theirs.close()

    def result(self) -> dict[str, float]:
        """What the function returned."""
        found: dict[str, float] = self._connection.recv()
        return found

    def pss(self) -> float:
        """Of the process and its workers together, in MB."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_pss(int(each)) for each in (pid, *children) if each)

    def dismiss(self) -> None:
        """Let it end."""
        self._connection.send(None)
        self.process.join()


def _pss(pid: int) -> float:
    """PSS of a process in MB, but for mapped files that are no part of a dataset."""
    total, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first:  # the head of a mapping: addresses, rights, offset, device, inode, path
            counts = len(rest) < 5 or not rest[4].startswith("/") or rest[4].endswith((".npy", "(deleted)"))
        elif first == "Pss:" and counts:
            total += int(rest[0])
    return total * 1024 / 1e6


def alone(function: Callable[..., Any], *arguments: Any) -> dict[str, float]:
    """The result of a function in a process of its own."""
    other = Other(function, *arguments)
    found = other.result()
    other.dismiss()
    return found


def memory_of(ranks: int, path: Path | None, workers: int) -> float:
    """PSS of all processes of a job, in MB."""
    others = [Other(be_rank, path, workers) for _ in range(ranks)]
    for other in others:
        other.result()
    found = sum(other.pss() for other in others)
    for other in others:
        other.dismiss()
    return found


def measure(path: Path, rounds: int) -> dict[str, list[float]]:
    """All figures of the dataset, the conversion apart."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        one, three = (memory_of(ranks, path, 0) - memory_of(ranks, None, 0) for ranks in (1, 3))
        values = {
            **alone(open_it, path),
            **alone(time_items, path),
            "rank": one,
            "three ranks": three,
            "extra rank": (three - one) / 2,
            "extra worker": (memory_of(1, path, 4) - memory_of(1, path, 1)) / 3,
        }
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return found


def tables(size: float, seconds: float, first: dict[str, float], found: dict[str, list[float]]) -> list[Table | str]:
    """What was measured, as text; ``first`` and ``size`` are of a conversion, if there was a real one."""
    table = Table(["", "", "aimed at"])
    if first["converted"]:
        table.add("annotation file", f"{size:,.0f} MB", "")
        table.add("first time: converted in", f"{first['open']:,.0f} s, {first['cpu']:,.0f} s CPU", "")
        table.add("first time: process at its peak", f"{first['peak']:,.0f} MB", "")
    table.add("converted, on disk", f"{first['store']:,.0f} MB", "")
    opened, extra = (verdict(found[name], limit) for name, limit in (("open", SECONDS), ("extra rank", MEGABYTES)))
    table.add("later: opened in", f"{spread(found['open'], 2)} s", opened)
    table.add("later: first batch of records after", f"{spread(found['batch'], 2)} s", "")
    table.add("a record, pages not mapped yet", f"{spread(found['first'], 1)} us CPU", "")
    table.add("a record", f"{spread(found['again'], 1)} us CPU", "")
    table.add("memory of one rank, pages of the dataset included", f"{spread(found['rank'], 1)} MB", "")
    table.add("memory of three ranks, pages of the dataset included", f"{spread(found['three ranks'], 1)} MB", "")
    table.add("memory of an extra rank", f"{spread(found['extra rank'], 1)} MB", extra)
    table.add(
        "memory of an extra worker",
        f"{spread(found['extra worker'], 1)} MB",
        verdict(found["extra worker"], MEGABYTES),
    )
    return [table, f"The file took {seconds:,.0f} s to write, which is no part of this."]


def verdict(values: list[float], limit: float) -> str:
    """The limit, and whether the median keeps it."""
    return f"under {limit:g}: {'reached' if statistics.median(values) < limit else 'missed'}"


def run(options: argparse.Namespace) -> Section:
    """Write the dataset, convert and measure it."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        os.environ["DRIVETRAIN_CACHE"] = str(Path(folder) / "cache")
        start = time.perf_counter()
        path = write_dataset(Path(folder), options.images, options.objects, options.polygons)
        seconds, size = time.perf_counter() - start, path.stat().st_size / 1e6
        first = alone(open_it, path, options.repeat)
        found = measure(path, options.rounds)
        if found["store"][-1] != first["store"]:
            raise SystemExit("The store was not kept on disk, as of files up to 8 MB none is: give more --images.")
        shutil.rmtree(folder, ignore_errors=True)
    images = options.images * options.repeat
    title = f"A dataset of {images:,} images with {images * options.objects:,} annotations"
    laid = f" {options.images:,} images are converted, and laid end to end {options.repeat} times."
    method = (
        f"{'Boxes and polygons of 24 points' if options.polygons else 'Boxes'}, in random order; {options.rounds} "
        "rounds after the conversion, median [quartiles]; files in the system's cache; later opens and items in new "
        f"processes. Ranks and workers have read {READ:,} records each. Image files are looked for in the first "
        f"opening; later only if their folder has changed.{laid * (options.repeat > 1)}"
    )
    return Section("dataset", title, method, tables(size, seconds, first, found), ("torch", "numpy"))


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("A large dataset.", "python benchmarks/dataset.py --images 20000 --repeat 50 --rounds 1")
    made.set_defaults(rounds=3)
    made.add_argument("--images", type=int, default=1_000_000, help="images (default: 1,000,000)")
    made.add_argument("--repeat", type=int, default=1, help="lay the converted dataset end to end (default: 1)")
    made.add_argument("--objects", type=int, default=7, help="annotations per image on average (default: 7)")
    made.add_argument("--polygons", action="store_true", help="give every annotation a polygon too")
    made.add_argument("--folder", help="where to write (default: the system's temporary folder)")
    options = made.parse_args(arguments)
    publish(run(options), options.document)


if __name__ == "__main__":
    main()
