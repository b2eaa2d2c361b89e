"""What PreciseBN costs beside the forward passes that it needs.

A ResNet-50 in training mode, without gradients, gets a number of batches: by PreciseBN, and by a bare loop. PreciseBN
also leaves everything but the statistics as it was: buffers, random generators, training flags.
"""

from __future__ import annotations

import logging
import statistics
from functools import partial

import torch
import torchvision
from report import Section, Table, clock, interleave, parser, publish, spread

from drivetrain.engine.hooks import PreciseBN

TARGET = 1.01  # times the forward passes


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    made = parser("What PreciseBN costs.", "python benchmarks/precise_bn.py --rounds 5 --batches 4 --size 64")
    made.add_argument("--batches", type=int, default=8, help="batches for an update (default: 8)")
    made.add_argument("--batch-size", type=int, default=8, help="images in a batch (default: 8)")
    made.add_argument("--size", type=int, default=160, help="height and width of an image (default: 160)")
    options = made.parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    model = torchvision.models.resnet50(num_classes=10).train()
    shape = (options.batch_size, 3, options.size, options.size)
    batches = [torch.randn(shape) for _ in range(options.batches)]
    hook = PreciseBN(0, model, batches, options.batches)

    @torch.no_grad()
    def bare() -> None:
        for batch in batches:
            model(batch)

    bare()
    ways = {"forward passes": bare, "PreciseBN": hook.update_stats}
    times = interleave({name: partial(clock, work) for name, work in ways.items()}, options.rounds)
    table = Table(["", "CPU ms a batch", "x forward passes", "wall ms a batch"])
    base = times["forward passes"]
    for name, values in times.items():
        ratios = [v.cpu / b.cpu for v, b in zip(values, base, strict=True)]
        cpu, wall = ([getattr(v, kind) * 1e3 / options.batches for v in values] for kind in ("cpu", "wall"))
        table.add(name, spread(cpu), spread(ratios, 3), spread(wall))
    ratio = statistics.median(v.cpu / b.cpu for v, b in zip(times["PreciseBN"], base, strict=True))
    section = Section(
        key="precise_bn",
        title="What does PreciseBN cost beside its forward passes?",
        method=(
            f"A ResNet-50, {options.batches} batches of {options.batch_size} images of {options.size} px, "
            f"{options.threads} thread(s), {options.rounds} rounds, median [quartiles]."
        ),
        parts=[
            table,
            f"Target: at most {TARGET:g} times the forward passes: {ratio:.3f}, "
            f"{'reached' if ratio <= TARGET else 'not reached'}.",
        ],
        libraries=("torch", "torchvision"),
    )
    publish(section, options.document)


if __name__ == "__main__":
    main()
