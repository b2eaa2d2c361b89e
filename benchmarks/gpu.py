"""What the engine costs beside a real detector: the step time in fp32, bf16 and compiled; on a GPU, synchronisations.

Without a CUDA device it says so and measures nothing, unless ``--device cpu`` asks for the step times there.

- Synchronisations: PyTorch reports each operation that waits for the device (``torch.cuda.set_sync_debug_mode``); they
  are counted per iteration, with DefaultTrainer's hooks and writers, for a model that has none of its own. Outside of
  write periods there must be none.
- Step time: torchvision's FCOS with a ResNet-50, random weights, random images and boxes; the bare loop against
  SimpleTrainer and DefaultTrainer with everything, by the wall clock, waiting for the device before each reading.

    python benchmarks/gpu.py --rounds 5 --iterations 50
"""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from loop import BATCH, WIDTH, Feed, TinyModel
from report import Sample, Section, Table, interleave, parser, publish, spread
from torch import nn

PERIOD = 20
TARGET = 1.01  # step time as a ratio to the bare loop
NO_DEVICE = "There is no CUDA device here: nothing was measured."
NOT_COUNTED = "Synchronisations are counted on a CUDA device alone."


class Detector(nn.Module):
    """FCOS of torchvision with the model contract: a dict of losses for a batch of images and targets."""

    def __init__(self, size: int) -> None:
        from torchvision.models.detection import fcos_resnet50_fpn

        super().__init__()
        sizes = {"min_size": size, "max_size": size}  # else images are resized to 800 pixels
        self.net = fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=80, **sizes)

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        """The losses."""
        losses: dict[str, torch.Tensor] = self.net(*batch)
        return losses


def detection_batch(images: int, size: int, device: torch.device) -> Any:
    """Random images of size x size with 8 boxes each."""
    corners = torch.rand(8, 2) * size / 2
    target = {"boxes": torch.cat([corners, corners + size / 4], 1).to(device), "labels": torch.arange(8, device=device)}
    return [torch.rand(3, size, size, device=device) for _ in range(images)], [target] * images


def trainer_of(kind: str, model: nn.Module, feed: Any, folder: str, **options: Any) -> Any:
    """SimpleTrainer, or DefaultTrainer with everything."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, fused=True)
    if kind == "SimpleTrainer":
        from drivetrain.engine.train_loop import SimpleTrainer

        return SimpleTrainer(model, feed, optimizer, metric_period=PERIOD, **options)
    from drivetrain.engine.defaults import DefaultTrainer, get_cfg

    cfg = get_cfg()
    cfg.OUTPUT_DIR = folder
    cfg.MODEL.DEVICE = str(next(model.parameters()).device)
    cfg.SOLVER.MAX_ITER = feed.total
    cfg.SOLVER.CHECKPOINT_PERIOD = 10 * feed.total
    cfg.SOLVER.PRECISION = options.get("precision", "fp32")
    return DefaultTrainer(cfg, model=model, optimizer=optimizer, train_loader=feed)


@contextlib.contextmanager
def quiet() -> Iterator[str]:
    """A folder; what is printed within the block goes nowhere."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        yield folder


# Synchronisations


def synchronisations(kind: str, device: torch.device, iterations: int) -> list[int]:
    """How many operations waited for the device in each iteration, the first two periods left out."""
    from drivetrain.engine.hooks import CallbackHook

    feed = Feed(torch.randn(BATCH, WIDTH, device=device), 2 * PERIOD, iterations)
    counts: list[int] = []
    with quiet() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = trainer_of(kind, TinyModel().to(device), feed, folder)
        trainer.register_hooks([CallbackHook(before_step=lambda t: counts.append(len(caught)))])
        torch.cuda.set_sync_debug_mode("warn")
        try:
            trainer.train() if kind == "DefaultTrainer" else trainer.train(0, feed.total)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [after - before for before, after in pairwise(counts)][2 * PERIOD :]


def count_synchronisations(device: torch.device, iterations: int) -> list[Table | str]:
    """A row for each trainer; and that the counting works."""
    table = Table(["synchronisations", "per iteration outside write periods, at most", "in a write period", "reached"])
    for kind in ("SimpleTrainer", "DefaultTrainer"):
        found = synchronisations(kind, device, iterations)
        within = [count for number, count in enumerate(found) if (number + 1) % PERIOD]
        at_write = [count for number, count in enumerate(found) if (number + 1) % PERIOD == 0]
        table.add(kind, max(within), f"{statistics.fmean(at_write):.1f}", "no" if any(within) else "yes")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        for _ in range(3):
            torch.ones((), device=device).item()
        torch.cuda.set_sync_debug_mode("default")
    return [table, f"Three reads of a tensor, to see that the counting works: {len(caught)} counted."]


# Step time


def bare(feed: Feed, model: nn.Module, precision: str) -> None:
    """The loop that one would write by hand."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, fused=True)
    device = next(model.parameters()).device
    model.train()
    for batch in feed:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss: Any = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train(kind: str, feed: Feed, model: nn.Module, precision: str) -> None:
    """The same by a trainer."""
    with quiet() as folder:
        trainer = trainer_of(kind, model, feed, folder, precision=precision)
        trainer.train() if kind == "DefaultTrainer" else trainer.train(0, feed.total)


def step_time(run: Callable[[Feed, nn.Module, str], None], precision: str, compiled: bool, options: Any) -> Sample:
    """Seconds per iteration of a detector that is made anew."""
    device = torch.device(options.device)
    wait = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    torch.manual_seed(0)
    detector = Detector(options.size).to(device)
    if compiled:
        detector.net.backbone.compile()
    feed = Feed(detection_batch(options.images, options.size, device), options.warmup, options.iterations, wait)
    run(feed, detector, precision)
    cpu, wall = feed.microseconds()
    return Sample(cpu / 1e6, wall / 1e6)


def step_times(options: Any) -> Table:
    """The table of step times; ratios are of wall time, but on a CPU of CPU time, which is the steadier one there."""
    kind = 1 if options.device.startswith("cuda") else 0
    kinds = [("fp32", False), ("bf16", False)] + ([("bf16", True)] if options.compile else [])
    loops: dict[str, Callable[[Feed, nn.Module, str], None]] = {
        "bare": bare,
        "SimpleTrainer": partial(train, "SimpleTrainer"),
        "DefaultTrainer": partial(train, "DefaultTrainer"),
    }
    table = Table(
        [
            "FCOS, ResNet-50",
            "loop",
            "wall ms per step",
            f"ratio to bare, {('CPU', 'wall')[kind]}",
            "CPU ms per step",
            "within 1 %",
        ]
    )
    for precision, compiled in kinds:
        cases = {name: partial(step_time, run, precision, compiled, options) for name, run in loops.items()}
        samples = interleave(cases, options.rounds)
        for name, own in samples.items():
            ratios = [a[kind] / b[kind] for a, b in zip(own, samples["bare"], strict=True)]
            cpu, wall = ([sample[clock] * 1e3 for sample in own] for clock in (0, 1))
            reached = "" if name == "bare" else "yes" if statistics.median(ratios) <= TARGET else "no"
            label = precision + (", backbone compiled" if compiled else "")
            table.add(label, name, spread(wall), spread(ratios, 3), spread(cpu), reached)
    return table


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    command = parser("The engine beside a real detector.", "python benchmarks/gpu.py --rounds 3 --iterations 20")
    command.add_argument("--device", default="cuda", help="'cpu' for the step times there (default: cuda)")
    command.add_argument("--iterations", type=int, default=60, help="measured per run (default: 60)")
    command.add_argument("--warmup", type=int, default=10, help="iterations before them (default: 10)")
    command.add_argument("--images", type=int, default=4, help="per batch (default: 4)")
    command.add_argument("--size", type=int, default=640, help="of the images, in pixels (default: 640)")
    command.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    options = command.parse_args(arguments)
    if min(options.iterations, options.warmup, options.images) < 1 or options.size < 256:
        command.error("--iterations, --warmup and --images must be at least 1, --size at least 256")
    torch.set_num_threads(options.threads)
    logging.captureWarnings(False)
    device = torch.device(options.device)
    parts: list[Table | str] = []
    method = NO_DEVICE
    if device.type != "cuda" or torch.cuda.is_available():
        parts += count_synchronisations(device, 3 * PERIOD) if device.type == "cuda" else [NOT_COUNTED]
        parts.append(step_times(options))
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
        method = (
            f"On {name}. {options.rounds} rounds of {options.iterations} iterations of {options.images} images of "
            f"{options.size}x{options.size}, {options.threads} thread(s); median [quartiles]. Ratios are taken within "
            "a round."
        )
    publish(Section("gpu", "The step of a real detector", method, parts, ("torch", "torchvision")), options.document)


if __name__ == "__main__":
    main()
