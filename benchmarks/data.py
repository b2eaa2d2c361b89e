"""What it costs to make a training sample of an image file: the mapper against detectron2's way of doing it.

Photograph-like JPEG files are drawn, with 18 objects each, and mapped one at a time in one thread: decode, resize so
that the shorter edge has a given length, mirror every second image, boxes, and a uint8 tensor. Beside this package's
mapper stands what detectron2's does: its own where it can be imported, otherwise the same steps written down here (PIL
decode to a BGR array, PIL resize, each annotation by itself, a contiguous copy of the transposed array).

glibc gives freed memory of image size back to the system by default, which costs mappers of this kind up to half of
their time. All is measured twice, each time in a process of its own: with glibc told to keep it, as this package's
loader processes tell it, and with its default.

The image that this package's mapper gives is a view of what was decoded or resized, with the channels of a pixel side
by side. detectron2's copies it to planes; here that is left to the copy into a float batch, which is measured for both.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2_steps import LONGEST, Reference
from PIL import Image
from report import Sample, Section, Table, clock, interleave, parser, publish, spread

from drivetrain.data.images import ImageFile
from drivetrain.data.mapper import DatasetMapper
from drivetrain.data.randomness import generator
from drivetrain.data.transforms import RandomFlip, ResizeShortestEdge
from drivetrain.data.transforms.resize import for_decoded
from drivetrain.structures import BoxMode, ImageList

Array = np.ndarray[Any, Any]
Record = dict[str, Any]
Mapper = Callable[[Record], dict[str, Any]]

OBJECTS, IMAGES = 18, 12
PASSES = 4  # over the images, one sample: a loader's process makes one image after the other too
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(256 << 20), "MALLOC_TRIM_THRESHOLD_": str(512 << 20)}
KEPT, DEFAULT = "freed memory kept", "glibc's default"
SETTINGS: dict[str, dict[str, str]] = {KEPT: KEEP, DEFAULT: {}}
COLUMNS = ("CPU ms per image", "detectron2", "exact", "times as fast", "scaled decode", "times as fast")
ELSEWHERE = "another machine"
PARTS = ("decode", "resize, mirror", "annotations", "tensor")
BATCH = "then: to a float batch"


@dataclass(frozen=True)
class Case:
    """Images of a size, resized to a shorter edge, and how many times detectron2's pace is aimed at.

    ``elsewhere`` has CPU ms per image on another machine, with detectron2 installed there: of its mapper, and of the
    fastest mappers then known, with exact and with scaled decoding.
    """

    width: int
    height: int
    short: int
    exact: float | None = None
    scaled: float | None = None
    masks: bool = False
    elsewhere: tuple[float, float, float] | None = None

    def __str__(self) -> str:
        return f"{self.width}x{self.height} -> {self.short}{', polygons' if self.masks else ''}"


CASES = (
    Case(640, 480, 800, 5.0, elsewhere=(9.8, 1.45, 1.5)),
    Case(640, 480, 480),
    Case(1920, 1440, 800, 4.0, 6.0, elsewhere=(33.0, 7.6, 4.8)),
    Case(1920, 1440, 480, 3.5, 4.5, elsewhere=(48.4, 12.3, 9.8)),
    Case(640, 480, 800, masks=True),
)


def picture(width: int, height: int, rng: np.random.Generator) -> Array:
    """uint8 RGB (height, width, 3) with detail of all sizes, the finer the fainter, as photographs have."""
    out = np.full((height, width, 3), 128.0, dtype=np.float32)
    cells = 3
    while cells < width:
        grid = rng.normal(0, 130 / cells**0.75, (max(height * cells // width, 2), cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(grid[:, :, channel]).resize((width, height), Image.Resampling.BICUBIC)
            out[:, :, channel] += np.asarray(layer)
        cells *= 2
    return out.clip(0, 255).astype(np.uint8)


def annotations(width: int, height: int, rng: np.random.Generator) -> list[Record]:
    """Objects with a box, coordinates in hundredths of a pixel as in COCO files, and a polygon of 24 points."""
    found = []
    for _ in range(OBJECTS):
        size = rng.uniform(0.05, 0.4, 2) * (width, height)
        corner = rng.uniform(0, 1, 2) * ((width, height) - size)
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        outline = corner + size * (0.5 + 0.5 * np.stack([np.cos(turn), np.sin(turn)], axis=1))
        found.append(
            {
                "bbox": np.concatenate([corner, size]).round(2).tolist(),
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": int(rng.integers(80)),
                "iscrowd": 0,
                "segmentation": [outline.round(2).reshape(-1).tolist()],
            }
        )
    return found


def draw(folder: Path, width: int, height: int) -> list[Record]:
    """Draw the images of one size; their records."""
    records = []
    for number in range(IMAGES):
        rng = np.random.default_rng((width, number))
        path = folder / f"{width}-{number}.jpg"
        Image.fromarray(picture(width, height, rng)).save(path, quality=85)
        record = {"file_name": str(path), "image_id": number, "height": height, "width": width}
        records.append({**record, "annotations": annotations(width, height, rng)})
    return records


def detectron2_mapper(case: Case, mirror: bool) -> Mapper | None:
    """detectron2's own mapper, where it can be imported."""
    try:
        from detectron2.data import DatasetMapper as Theirs
        from detectron2.data import transforms
        from detectron2.structures import BoxMode as TheirMode
    except ImportError:
        return None
    steps = [transforms.ResizeShortestEdge(case.short, LONGEST), transforms.RandomFlip(prob=float(mirror))]
    mapper = Theirs(True, augmentations=steps, image_format="BGR", use_instance_mask=case.masks)

    def call(record: Record) -> dict[str, Any]:
        objects = [{**item, "bbox_mode": TheirMode.XYWH_ABS} for item in record["annotations"]]
        return mapper({**record, "annotations": objects})

    return call


def own_mapper(case: Case, mirror: bool, scaled: bool = False) -> tuple[DatasetMapper, Mapper]:
    """This package's mapper, and a call of it."""
    steps = [ResizeShortestEdge(case.short, LONGEST), RandomFlip(float(mirror))]
    mapper = DatasetMapper(
        True, augmentations=steps, image_format="BGR", use_instance_mask=case.masks, scaled_decode=scaled
    )
    return mapper, lambda record: mapper(record, generator(0, 0))


Work = list[Callable[[], object]]


def wholes(case: Case, records: list[Record]) -> dict[str, Work]:
    """A sample of each record by each mapper, every second one mirrored."""
    work: dict[str, Work] = {"detectron2": [], "exact": [], "scaled": []}
    for number, record in enumerate(records):
        mirror = number % 2 == 1
        theirs = detectron2_mapper(case, mirror) or Reference(case.short, mirror, case.masks)
        work["detectron2"].append(lambda mapper=theirs, record=record: mapper(record))
        for name in ("exact", "scaled"):
            _, own = own_mapper(case, mirror, name == "scaled")
            work[name].append(lambda mapper=own, record=record: mapper(record))
    return work


def parts(case: Case, records: list[Record]) -> dict[str, Work]:
    """The parts of samples by the reference and by this package's mapper, what they need made before."""
    work: dict[str, Work] = defaultdict(list)
    for number, record in enumerate(records):
        for name, call in (*_their_parts(case, record, number % 2 == 1), *_own_parts(case, record, number % 2 == 1)):
            work[name].append(call)
    return work


def _their_parts(case: Case, record: Record, mirror: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    theirs = Reference(case.short, mirror, case.masks)
    image = theirs.decode(record)
    transforms = theirs.transforms(image)
    moved = theirs.move(image, transforms)
    yield "detectron2 decode", lambda: theirs.decode(record)
    yield "detectron2 resize, mirror", lambda: theirs.move(image, transforms)
    yield (
        "detectron2 annotations",
        lambda: theirs.targets(copy.deepcopy(record["annotations"]), transforms, moved.shape[:2]),
    )
    yield "detectron2 tensor", lambda: theirs.tensor(moved)
    made = theirs.tensor(moved)
    yield f"detectron2 {BATCH}", lambda: ImageList.from_tensors([made], dtype=torch.float32)


def _own_parts(case: Case, record: Record, mirror: bool) -> Iterator[tuple[str, Callable[[], object]]]:
    mapper, _ = own_mapper(case, mirror)
    image = ImageFile(record["file_name"], "BGR").tensor()
    size = record["height"], record["width"]
    transform = mapper.augmentations.draw(generator(0, 0), *size)
    pixels = for_decoded(transform, size)
    moved = pixels.apply_image(image)
    yield "exact decode", lambda: ImageFile(record["file_name"], "BGR").tensor()
    yield "exact resize, mirror", lambda: pixels.apply_image(image)
    yield "exact annotations", lambda: mapper.make_targets(record, transform)
    yield f"exact {BATCH}", lambda: ImageList.from_tensors([moved], dtype=torch.float32)


@dataclass
class Result:
    """What was measured of one case: samples per image, and differences to the reference."""

    wholes: dict[str, list[Sample]]
    parts: dict[str, list[Sample]]
    differences: dict[str, tuple[int, float, float]]
    bytes: int


def measure(case: Case, records: list[Record], rounds: int, threads: int) -> Result:
    """Measure one case, in a process of its own."""
    torch.set_num_threads(threads)
    work = {**wholes(case, records), **parts(case, records)}
    for calls in work.values():
        calls[0]()
    cases = {name: (lambda calls=calls: clock(lambda: [c() for c in calls], PASSES)) for name, calls in work.items()}
    samples = interleave(cases, rounds)
    per_image = {name: [Sample(s.cpu / len(records), s.wall / len(records)) for s in v] for name, v in samples.items()}
    size = round(statistics.mean(os.path.getsize(record["file_name"]) for record in records))
    names = wholes(case, [])
    return Result(
        {name: per_image[name] for name in names},
        {name: v for name, v in per_image.items() if name not in names},
        {name: difference(case, records, name == "scaled") for name in ("exact", "scaled")},
        size,
    )


def difference(case: Case, records: list[Record], scaled: bool) -> tuple[int, float, float]:
    """The largest and the mean difference of pixels to the reference in grey levels, and the largest of boxes."""
    largest, total, box = 0, 0.0, 0.0
    for number, record in enumerate(records):
        theirs = Reference(case.short, number % 2 == 1, case.masks)(record)
        own = own_mapper(case, number % 2 == 1, scaled)[1](record)
        apart = (theirs["image"].int() - own["image"].int()).abs()
        largest, total = max(largest, int(apart.max())), total + float(apart.float().mean())
        corners = (theirs["instances"].gt_boxes.tensor - own["instances"].gt_boxes.tensor).abs()
        box = max(box, float(corners.max()))
        if not torch.equal(theirs["instances"].gt_classes, own["instances"].gt_classes):
            raise RuntimeError(f"the classes of {record['file_name']} differ")
    return largest, total / len(records), box


def start(variables: dict[str, str]) -> ProcessPoolExecutor:
    """A process with environment variables that glibc reads when it starts."""
    os.environ.update(variables)
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    pool.submit(os.getpid).result()
    for name in variables:
        del os.environ[name]
    return pool


def measure_all(rounds: int, threads: int) -> dict[str, dict[Case, Result]]:
    """The results of each case under each setting of the memory allocator."""
    results: dict[str, dict[Case, Result]] = {setting: {} for setting in SETTINGS}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sizes = {(case.width, case.height) for case in CASES}
        records = {size: draw(Path(folder), *size) for size in sorted(sizes)}
        pools = {setting: stack.enter_context(start(variables)) for setting, variables in SETTINGS.items()}
        for case in CASES:
            for setting, pool in pools.items():
                found = pool.submit(measure, case, records[case.width, case.height], rounds, threads)
                results[setting][case] = found.result()
    return results


def milliseconds(samples: list[Sample]) -> str:
    """CPU time as text."""
    return spread([sample.cpu * 1e3 for sample in samples], 2)


def ratio(slow: list[Sample], fast: list[Sample]) -> list[float]:
    """How many times as long, in each round."""
    return [a.cpu / b.cpu for a, b in zip(slow, fast, strict=True)]


def verdict(values: list[float], target: float | None) -> str:
    """The ratio beside what is aimed at."""
    if target is None:
        return spread(values, 2)
    return f"{spread(values, 2)}, {'reaches' if statistics.median(values) >= target else 'misses'} {target:g}"


def whole_table(results: dict[Case, Result]) -> Table:
    """One row per case."""
    table = Table(COLUMNS)
    for case, result in results.items():
        theirs, exact, scaled = (result.wholes[name] for name in ("detectron2", "exact", "scaled"))
        cells = [milliseconds(theirs), milliseconds(exact), verdict(ratio(theirs, exact), case.exact)]
        cells += [milliseconds(scaled), verdict(ratio(theirs, scaled), case.scaled)]
        table.add(f"{case} ({result.bytes / 1000:.0f} kB)", *cells)
    return table


def in_use_table(results: dict[str, dict[Case, Result]]) -> Table:
    """As each runs in the worker processes of its loader; ratios of medians, and figures from elsewhere."""
    table = Table([*COLUMNS, ELSEWHERE])
    for case in CASES:
        default, kept = results[DEFAULT][case], results[KEPT][case]
        samples = {"detectron2": default.wholes["detectron2"], **{n: kept.wholes[n] for n in ("exact", "scaled")}}
        theirs, exact, scaled = (statistics.median(s.cpu * 1e3 for s in found) for found in samples.values())
        cells = [f"{exact:.2f}", verdict([theirs / exact], case.exact)]
        cells += [f"{scaled:.2f}", verdict([theirs / scaled], case.scaled)]
        table.add(case, f"{theirs:.2f}", *cells, ", ".join(map(str, case.elsewhere or ())))
    return table


def reasons(results: dict[str, dict[Case, Result]]) -> list[str]:
    """Where exact decoding misses its target in use: what the two parts that libraries do take of it."""
    found = []
    for case, result in results[KEPT].items():
        theirs, own = (
            statistics.median(s.cpu for s in samples) * 1e3
            for samples in (results[DEFAULT][case].wholes["detectron2"], result.wholes["exact"])
        )
        if case.exact is not None and theirs / own < case.exact:
            least = sum(statistics.median(s.cpu for s in result.parts[f"exact {part}"]) * 1e3 for part in PARTS[:2])
            found.append(
                f"{case}: the decoder and PyTorch's resize take {least:.2f} of these {own:.2f} ms; alone they would be "
                f"{theirs / least:.2f} times as fast as detectron2's mapper. The rest is opening the file, the "
                "objects, and Python, each in caches that the pixels have just been through."
            )
    return found


def part_table(results: dict[Case, Result]) -> Table:
    """The medians of the parts; "rest" is what the whole takes beyond them, their caches being cold there included."""
    table = Table(["CPU ms per image", "", *PARTS, "rest", "whole", BATCH])
    for case, result in results.items():
        for who in ("detectron2", "exact"):
            named = (result.parts.get(f"{who} {part}", [Sample(0.0, 0.0)]) for part in (*PARTS, BATCH))
            *values, batch = (statistics.median(s.cpu * 1e3 for s in samples) for samples in named)
            whole = statistics.median(s.cpu * 1e3 for s in result.wholes[who])
            table.add(case, who, *(f"{v:.2f}" for v in [*values, whole - sum(values), whole, batch]))
    return table


def difference_table(results: dict[Case, Result]) -> Table:
    """How far samples are from the reference's."""
    table = Table(["difference to detectron2's", "decode", "pixels, largest", "pixels, mean", "boxes, largest"])
    for case, result in results.items():
        for name, (largest, mean, box) in result.differences.items():
            table.add(case, name, f"{largest} of 255", f"{mean:.4f}", f"{box:.5f} pixels")
    return table


def section(results: dict[str, dict[Case, Result]], options: argparse.Namespace) -> Section:
    """What was found."""
    own = detectron2_mapper(CASES[0], False) is not None
    kept = results[KEPT]
    found: list[Table | str] = [
        "As each runs in its loader's processes: detectron2's with glibc's default, this package's with freed memory "
        f'kept. "{ELSEWHERE}": figures of detectron2\'s own mapper, and of the fastest then known.',
        in_use_table(results),
        *reasons(results),
    ]
    for setting, cases in results.items():
        found += [f"Both with the same allocator: {setting}.", whole_table(cases)]
    found += [
        "The parts by themselves, with freed memory kept. The last column is no part of them: the copy of one image "
        "into a batch of floats, which makes the planes where they were not made before.",
        part_table(kept),
        "A decoder scales by 1/2, 1/4 or 1/8, and only to nine tenths of the size wanted or more; elsewhere scaled "
        "decoding is exact decoding. Boxes are computed in doubles here, in floats there.",
        difference_table(kept),
    ]
    method = (
        f"{IMAGES} drawn JPEG files of each size with {OBJECTS} objects; every second one is mirrored; "
        f"{options.rounds} interleaved rounds in one process, each of {PASSES * IMAGES} images in a row, "
        f"{options.threads} thread(s); CPU time, median "
        "[quartiles]; ratios within a round. Boxes alone are made of the objects, except where polygons are named. "
        f"detectron2 is {'its own mapper' if own else 'its steps, written from its behaviour: it is not installed'}."
    )
    libraries = ["torch", "torchvision", "numpy", "pillow", "simplejpeg", *(["detectron2"] if own else [])]
    return Section("data", "How long a training sample takes to make", method, found, libraries)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("The mapper against detectron2's.", "python benchmarks/data.py --rounds 5")
    options = made.parse_args(arguments)
    publish(section(measure_all(options.rounds, options.threads), options), options.document)


if __name__ == "__main__":
    main()
