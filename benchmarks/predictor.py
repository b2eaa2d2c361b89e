"""What DefaultPredictor adds to the model.

- Preparation: from an array of 640x480 in BGR order to what the model takes, 320 pixels at the shorter edge. The whole
  call of the predictor is measured, around a model that returns at once; beside it the same work as detectron2's
  predictor does it (Pillow's resize of the array, a float32 tensor) and as torchvision's transforms do it, and the
  resize alone.
- Batches: eight images of one size through a detector, one by one and in one batch, by the predictor and by the model
  alone with images that were prepared before.
- Memory: many images through an iterator, around a model that returns at once.
"""

from __future__ import annotations

import gc
import logging
import resource
import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from report import Section, Table, clock, interleave, parser, publish, spread
from torchvision.transforms import v2

from drivetrain.engine.defaults import DefaultPredictor, get_cfg

TARGET, REFERENCE = 0.6, 1.75  # ms of CPU time for the preparation, where detectron2's takes so long for a model in BGR
GROWTH = 8.0  # MiB by which the process may grow over all images: less than nine of them


def build(*overrides: str) -> DefaultPredictor:
    """A predictor of a small detector with new weights."""
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.NUM_CLASSES=80", "MODEL.DEVICE=cpu", "INPUT.MIN_SIZE_TEST=320", *overrides])
    torch.manual_seed(0)
    return DefaultPredictor(cfg)


def images(count: int) -> list[np.ndarray[Any, Any]]:
    """Arrays of 640x480 in BGR order."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(count)]


def like_detectron2(image: np.ndarray[Any, Any], rgb: bool) -> dict[str, Any]:
    """The work that detectron2's predictor does before the model."""
    height, width = image.shape[:2]
    image = image[:, :, ::-1] if rgb else image
    resized = np.asarray(Image.fromarray(image).resize((427, 320), Image.Resampling.BILINEAR))
    return {"image": torch.as_tensor(resized.astype("float32").transpose(2, 0, 1)), "height": height, "width": width}


def resize_alone(image: np.ndarray[Any, Any]) -> torch.Tensor:
    """The part of it that no way can do without, as a view (3, H, W) whose channels lie side by side."""
    resized: torch.Tensor = v2.functional.resize_image(torch.from_numpy(image).permute(2, 0, 1), [320, 427])
    return resized


def like_torchvision(image: np.ndarray[Any, Any], rgb: bool) -> dict[str, Any]:
    """The same by torchvision's transforms, of which the image stays uint8."""
    height, width = image.shape[:2]
    resized = resize_alone(image)
    return {"image": (resized.flip(0) if rgb else resized).contiguous(), "height": height, "width": width}


def preparation(rounds: int) -> tuple[Table, float]:
    """The first table, and the milliseconds of the slower preparation, scaled to the machine of the target."""
    image = images(1)[0]
    table = Table(["640x480 to 320", "CPU ms", "x detectron2's way"])
    slowest = 0.0
    for order in ("BGR", "RGB"):
        predictor = build(f"INPUT.FORMAT={order}")
        predictor.model = lambda batch: [{}] * len(batch)
        ways = {
            "detectron2's way": partial(like_detectron2, image, order == "RGB"),
            "torchvision v2, uint8": partial(like_torchvision, image, order == "RGB"),
            "DefaultPredictor": partial(predictor, image),
            "its resize alone": partial(resize_alone, image),
        }
        times = interleave({name: partial(clock, work, 50) for name, work in ways.items()}, rounds)
        for name, values in times.items():
            ratios = [v.cpu / b.cpu for v, b in zip(values, times["detectron2's way"], strict=True)]
            table.add(f"{name}, model in {order}", spread([v.cpu * 1e3 for v in values], 3), spread(ratios, 2))
        slowest = max(slowest, statistics.median(v.cpu * 1e3 for v in times["DefaultPredictor"]))
        if order == "BGR":
            theirs = statistics.median(v.cpu * 1e3 for v in times["detectron2's way"])
    return table, slowest * REFERENCE / theirs


def batches(rounds: int) -> tuple[Table, str]:
    """The second table, and whether a batch gives what single images give."""
    predictor = build()
    eight = images(8)
    ready = [predictor._prepare(image) for image in eight]

    @torch.no_grad()
    def model_alone(size: int) -> None:
        for start in range(0, 8, size):
            predictor.model(ready[start : start + size])

    ways = {
        "model alone, one by one": partial(model_alone, 1),
        "model alone, a batch of 8": partial(model_alone, 8),
        "DefaultPredictor, one by one": partial(predictor, eight),
        "DefaultPredictor, a batch of 8": partial(predictor, eight, 8),
    }
    times = interleave({name: partial(clock, work) for name, work in ways.items()}, rounds)
    table = Table(["8 images through fcos_tiny", "CPU ms", "x the model alone, in the same way"])
    for name, values in times.items():
        base = times["model alone, one by one" if name.endswith("one by one") else "model alone, a batch of 8"]
        ratios = [v.cpu / b.cpu for v, b in zip(values, base, strict=True)]
        table.add(name, spread([v.cpu * 1e3 for v in values], 0), spread(ratios, 3))
    return table, sameness(predictor, eight)


def sameness(predictor: DefaultPredictor, eight: list[np.ndarray[Any, Any]]) -> str:
    """A sentence on the difference between a batch and single images."""
    alone = [predictor(image)["instances"] for image in eight]
    for size in (1, 8):
        together = [output["instances"] for output in predictor(eight, size)]
        pairs = list(zip(alone, together, strict=True))
        boxes = max(float((a.pred_boxes.tensor - b.pred_boxes.tensor).abs().max()) for a, b in pairs)
        scores = max(float((a.scores - b.scores).abs().max()) for a, b in pairs)
        if size == 1 and (boxes or scores):
            raise AssertionError("a list of images gives other bits than the images one by one")
    if boxes or scores:
        return (
            f"A list is bit for bit what its images give one by one; a batch of 8 differs by {boxes:.1e} pixels and "
            f"{scores:.1e} of a score, which is the rounding of its convolutions."
        )
    return "Both a list and a batch of 8 give, bit for bit, what their images give one by one."


def memory(count: int) -> str:
    """Whether the process grows over many images."""
    predictor = build()
    predictor.model = lambda batch: [{"size": entry["image"].shape} for entry in batch]
    some = images(4)

    def stream(length: int) -> Iterator[np.ndarray[Any, Any]]:
        for number in range(length):
            yield some[number % len(some)].copy()

    def run(length: int) -> None:
        for _ in predictor(stream(length), batch_size=8):
            pass

    run(200)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(count)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    reached = "reached" if growth <= GROWTH else "not reached"
    return f"{count:,} images: the process grows by {growth:.1f} MiB (target: at most {GROWTH:g} MiB, {reached})."


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("What DefaultPredictor adds to the model.", "python benchmarks/predictor.py --rounds 3 --images 500")
    made.add_argument("--images", type=int, default=10_000, help="images for the memory (default: 10,000)")
    options = made.parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    prepared, slowest = preparation(options.rounds)
    batched, same = batches(options.rounds)
    grown = memory(options.images)
    section = Section(
        key="predictor",
        title="What does the predictor add to the model?",
        method=f"CPU time, {options.threads} thread(s), {options.rounds} rounds, median [quartiles].",
        parts=[
            prepared,
            f"Target: at most {TARGET:g} ms outside of the model where detectron2's way takes {REFERENCE:g} ms for a "
            f"model in BGR: the slower order takes {slowest:.2f} ms there, "
            f"{'reached' if slowest <= TARGET else 'not reached'}.",
            batched,
            same,
            grown,
        ],
        libraries=("torch", "torchvision", "pillow"),
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
