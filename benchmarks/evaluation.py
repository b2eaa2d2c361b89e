"""What COCO's evaluation of boxes costs: time, where it goes, and memory, against the libraries alone.

Random ground truth and detections of the size of COCO's validation set (5,000 images, 100 detections each, 80 classes)
are evaluated in these ways:

- ``pycocotools`` and ``faster-coco-eval``: from a list of result entries, as an evaluator makes it, to the twelve
  figures: ``loadRes``, ``evaluate``, ``accumulate``, ``summarize``;
- ``COCOEvaluator``: from a model's outputs to results and tables: everything that an evaluation adds to the model;
- ``with its file``: the same with an output folder, which gets ``coco_instances_results.json``.

The ground truth is loaded beforehand everywhere. Ratios are taken within a round. Memory is the highest resident size
of a forked process above that at its start, the result entries included where a library needs them. The parts of
``COCOEvaluator`` are timed in a pass of its own.

    python benchmarks/evaluation.py --images 500
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from faster_coco_eval import COCO as FastCOCO
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from report import Sample, Section, Table, clock, interleave, parser, publish, spread

from drivetrain.data.catalog import MetadataCatalog
from drivetrain.evaluation import COCOEvaluator, coco, coco_matching
from drivetrain.evaluation.store import PredictionStore, gather_store
from drivetrain.structures import Boxes, Instances

SIZE = (480, 640)
OURS, WITH_FILE, REFERENCE, FAST = "COCOEvaluator", "with its file", "pycocotools", "faster-coco-eval"
TARGET = 43 / 7  # how many times faster than pycocotools
DETECTRON2_MEMORY = 1900  # MB above its start for 5,000 images, measured elsewhere
TARGET_MEMORY = DETECTRON2_MEMORY / 3

Array = np.ndarray[Any, Any]


@dataclass
class Data:
    """Ground truth, and predictions as arrays."""

    content: dict[str, Any]
    boxes: Array  # XYWH, float32 (images, detections, 4)
    scores: Array
    classes: Array  # from 0

    def outputs(self) -> list[dict[str, Instances]]:
        """As a model gives them."""
        made = []
        for boxes, scores, classes in zip(self.boxes, self.scores, self.classes, strict=True):
            corners = boxes.copy()
            corners[:, 2:] += corners[:, :2]
            fields = {"pred_boxes": Boxes(corners), "scores": torch.from_numpy(scores)}
            made.append({"instances": Instances(SIZE, pred_classes=torch.from_numpy(classes), **fields)})
        return made

    def entries(self) -> list[dict[str, Any]]:
        """As result entries; each evaluation adds to them, so it gets its own."""
        corners = self.boxes.copy()
        corners[..., 2:] += corners[..., :2]
        boxes = corners.astype(np.float64)
        boxes[..., 2:] -= boxes[..., :2]
        return [
            {"image_id": number, "category_id": label + 1, "bbox": box, "score": score}
            for number, *rows in zip(range(1, len(boxes) + 1), boxes, self.scores, self.classes, strict=True)
            for box, score, label in zip(*(row.tolist() for row in rows), strict=True)
        ]


def draw(images: int, detections: int, num_classes: int) -> Data:
    """7.3 objects an image of up to three classes; detections near them and, more often, elsewhere."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    boxes = random_boxes(rng, (images, detections))
    classes = rng.integers(0, num_classes, (images, detections))
    far = rng.random((images, detections)) < 0.6
    for number in range(images):
        objects = random_boxes(rng, (int(rng.poisson(7.3)),))
        labels = rng.choice(rng.integers(0, num_classes, 3), len(objects))
        for box, label in zip(objects.round(2).tolist(), labels.tolist(), strict=True):
            crowd = int(rng.random() < 0.02)
            entry = {"image_id": number + 1, "category_id": label + 1, "bbox": box, "area": box[2] * box[3] * 0.7}
            annotations.append({**entry, "id": len(annotations) + 1, "iscrowd": crowd})
        if len(objects):
            near = np.flatnonzero(~far[number])
            of_object = rng.integers(0, len(objects), len(near))
            noise = rng.normal(0, 0.08, (len(near), 4)) * objects[of_object][:, [2, 3, 2, 3]]
            boxes[number, near] = np.maximum(objects[of_object] + noise, [0, 0, 1, 1])
            classes[number, near] = labels[of_object]
    scores = rng.random((images, detections)) * np.where(far, 0.6, 1)
    content = {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1], "file_name": ""} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, num_classes + 1)],
    }
    return Data(content, boxes.astype(np.float32), scores.astype(np.float32), classes)


def random_boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """XYWH, sides from 8 to 400 pixels."""
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (*shape, 2)))
    return np.concatenate([rng.uniform(0, 1, (*shape, 2)) * (np.array([640, 480]) - sides).clip(min=0), sides], axis=-1)


class Cases:
    """The ways to evaluate, on one set of data."""

    def __init__(self, data: Data, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.outputs = data.outputs()
        self.inputs: list[dict[str, Any]] = [{"image_id": image["id"]} for image in data.content["images"]]
        (folder / "truth.json").write_text(json.dumps(data.content))
        MetadataCatalog.get("benchmark").json_file = str(folder / "truth.json")
        with contextlib.redirect_stdout(io.StringIO()):
            self.reference, self.fast = COCO(str(folder / "truth.json")), FastCOCO(str(folder / "truth.json"))
        self.evaluators = {
            OURS: COCOEvaluator("benchmark"),
            WITH_FILE: COCOEvaluator("benchmark", output_dir=folder / "out"),
        }
        for evaluator in self.evaluators.values():
            evaluator.check()
        self.stats: dict[str, Array] = {}

    def library(self, name: str, entries: list[dict[str, Any]] | None = None) -> None:
        """Evaluate result entries by a library alone."""
        entries = self.data.entries() if entries is None else entries
        with contextlib.redirect_stdout(io.StringIO()):
            if name == REFERENCE:
                evaluation = COCOeval(self.reference, self.reference.loadRes(entries), "bbox")
            else:
                options = {"print_function": lambda *_: None}
                evaluation = COCOeval_faster(self.fast, self.fast.loadRes(entries), "bbox", **options)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        self.stats[name] = np.asarray(evaluation.stats[:12])

    def ours(self, name: str, batch: int = 8) -> None:
        """Evaluate a model's outputs."""
        evaluator = self.evaluators[name]
        evaluator.reset()
        self.process(evaluator, batch)
        with mock.patch.object(coco_matching, "evaluate_task", self.noted(name)):
            evaluator.evaluate()
        evaluator.reset()

    def process(self, evaluator: COCOEvaluator, batch: int = 8) -> None:
        """Feed an evaluator."""
        for i in range(0, len(self.inputs), batch):
            evaluator.process(self.inputs[i : i + batch], self.outputs[i : i + batch])

    def noted(self, name: str) -> Callable[..., Any]:
        """The evaluation itself, which leaves its twelve figures here."""
        evaluate_task = coco_matching.evaluate_task

        def evaluate(*args: Any, **options: Any) -> Any:
            evaluation = evaluate_task(*args, **options)
            self.stats[name] = np.asarray(evaluation.stats[:12])
            return evaluation

        return evaluate

    def timed(self) -> dict[str, Callable[[], Sample]]:
        """Each case with its clock; result entries are made outside of it."""

        def of_library(name: str) -> Sample:
            entries = self.data.entries()
            return clock(lambda: self.library(name, entries))

        libraries = {name: lambda name=name: of_library(name) for name in (REFERENCE, FAST)}
        return {**libraries, **{name: lambda name=name: clock(lambda: self.ours(name)) for name in self.evaluators}}


def peak_memory(work: Callable[[], None]) -> float | None:
    """MiB of resident memory of a forked process at most, above that at its start; None where it cannot be told."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def measure() -> None:
        Path("/proc/self/clear_refs").write_text("5")  # sets the highest size back to the present one
        before = highest_size()
        work()
        sender.send((highest_size() - before) / 1024)

    child = context.Process(target=measure)
    child.start()
    child.join()
    return float(receiver.recv())


def highest_size() -> int:
    """KiB of resident memory of this process at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def parts(cases: Cases) -> dict[str, float]:
    """CPU seconds of the parts of an evaluation with its file."""
    seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def booked(name: str) -> Iterator[None]:
        start = time.process_time()
        try:
            yield
        finally:
            seconds[name] += time.process_time() - start

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with booked(name):
                return function(*args, **options)

        return call

    evaluator = cases.evaluators[WITH_FILE]
    evaluator.reset()
    with contextlib.ExitStack() as stack:
        for name, owner, attribute in (
            ("result file", coco, "write_results"),
            ("results as dicts", coco_matching, "_annotations"),
            ("results as dicts", coco_matching, "_index"),
            ("match and accumulate", COCOeval_faster, "evaluate"),
            ("match and accumulate", COCOeval_faster, "accumulate"),
            ("tables", COCOeval_faster, "summarize"),
            ("tables", coco, "class_rows"),
            ("tables", coco, "count_instances"),
        ):
            stack.enter_context(mock.patch.object(owner, attribute, watched(name, getattr(owner, attribute))))
        with booked("process"):
            cases.process(evaluator)
        with booked("evaluate"):
            evaluator.evaluate()
    named = sum(value for name, value in seconds.items() if name not in ("process", "evaluate"))
    seconds["the rest"] = seconds.pop("evaluate") - named
    seconds["gather, 2 processes"] = gather_seconds(evaluator._store, str(cases.folder))
    return dict(seconds)


def gather_seconds(store: PredictionStore, folder: str) -> float:
    """CPU seconds of the main one of two processes to bring the halves of ``store`` together."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run(rank: int) -> None:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
        half, everything = PredictionStore(), PredictionStore()
        pieces = store.pieces(1 << 20)
        for piece in pieces[rank::2]:
            half.extend(store.pack(piece))
        start = time.process_time()
        gather_store(half, everything)
        if rank == 0:
            sender.send(time.process_time() - start if len(everything) == len(store) else float("nan"))
        torch.distributed.destroy_process_group()

    children = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return float(receiver.recv())


def time_table(samples: dict[str, list[Sample]], memory: dict[str, float | None], stats: dict[str, Array]) -> Table:
    """Seconds, ratios, memory and agreement of each case."""
    made = Table(["", "CPU, s", "wall, s", "pycocotools / this", "memory, MiB", "largest difference"])
    for name, values in samples.items():
        ratios = [p.cpu / v.cpu for p, v in zip(samples[REFERENCE], values, strict=True)]
        of_case = memory[name]
        shown = "-" if of_case is None else f"{of_case:.0f}"
        difference = np.abs(stats[name] - stats[REFERENCE]).max()
        cpu, wall = (spread([getattr(v, kind) for v in values], 2) for kind in ("cpu", "wall"))
        made.add(name, cpu, wall, spread(ratios, 1), shown, f"{difference:.0e}" if difference else "0")
    return made


def part_table(seconds: dict[str, float]) -> Table:
    """Where the time of the evaluator goes."""
    made = Table(["part", "CPU, s"])
    for name, value in seconds.items():
        made.add(name, f"{value:.2f}")
    return made


def verdict(samples: dict[str, list[Sample]], memory: dict[str, float | None], images: int) -> str:
    """Whether the targets are reached."""
    said = []
    for name in (OURS, WITH_FILE):
        ratio = statistics.median(p.cpu / v.cpu for p, v in zip(samples[REFERENCE], samples[name], strict=True))
        scaled = 43 / ratio
        reached = "reached" if ratio >= TARGET else "not reached"
        said.append(f"{name}: {ratio:.1f} times pycocotools' speed, {scaled:.1f} s where it takes 43 s, {reached}")
    text = f"Target: {TARGET:.1f} times the speed of pycocotools alone, 7 s where it takes 43 s. {'; '.join(said)}."
    used = memory[WITH_FILE]
    if images == 5000 and used is not None:
        reached = "reached" if used <= TARGET_MEMORY else "not reached"
        text += (
            f" Memory: at most {TARGET_MEMORY:.0f} MiB, a third of what detectron2's evaluator takes above its start: "
            f"{used:.0f}, {reached}."
        )
    return text


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    made = parser("Time and memory of COCO's evaluation.", "python benchmarks/evaluation.py --images 500 --rounds 3")
    made.set_defaults(rounds=3)
    made.add_argument("--images", type=int, default=5000, help="images (default: 5000)")
    made.add_argument("--detections", type=int, default=100, help="detections of an image (default: 100)")
    made.add_argument("--classes", type=int, default=80, help="classes (default: 80)")
    return made.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = options_of(arguments)
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(draw(options.images, options.detections, options.classes), Path(folder))
        libraries = {name: peak_memory(lambda name=name: cases.library(name)) for name in (REFERENCE, FAST)}
        memory = {**libraries, **{name: peak_memory(lambda name=name: cases.ours(name)) for name in cases.evaluators}}
        seconds = parts(cases)
        samples = interleave(cases.timed(), options.rounds)
    section = Section(
        key="evaluation",
        title="What does COCO's evaluation cost?",
        method=(
            f"{options.images} images, {options.detections} detections each, {options.classes} classes, boxes. CPU "
            f"time counts all threads; {options.rounds} rounds, ratios of CPU time within a round. The libraries begin "
            "with a list of result entries, the evaluator with a model's outputs. Memory: the highest resident size of "
            "a process above that at its start. The largest difference is that of the twelve figures from pycocotools'."
        ),
        parts=[
            time_table(samples, memory, cases.stats),
            verdict(samples, memory, options.images),
            part_table(seconds),
        ],
        libraries=("pycocotools", "faster-coco-eval", "torch", "numpy"),
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
