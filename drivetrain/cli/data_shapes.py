"""``drivetrain data shapes``: draw the datasets that the recipes learn from."""

from __future__ import annotations

import argparse
import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from drivetrain.errors import ConfigError

from .terminal import printable

__all__ = ["add_shapes", "draw_shapes"]


class _Task(NamedTuple):
    """A dataset to draw.

    Attributes:
        function: what draws it, in `drivetrain.data.formats.synthetic`.
        content: what its images come with.
        look: what 'drivetrain data inspect' is given, below the dataset's folder.
        recipe: a recipe that learns from it, or "".
    """

    function: str
    content: str
    look: str
    recipe: str


_TASKS = MappingProxyType(
    {
        "instances": _Task(
            "make_synthetic", "boxes, masks and keypoints", "instances_train.json", "recipes/shapes_mask_rcnn.yaml"
        ),
        "segmentation": _Task("make_synthetic_segmentation", "label maps", "", "recipes/shapes_lraspp.yaml"),
        "panoptic": _Task("make_synthetic_panoptic", "panoptic maps", "panoptic_train.json", ""),
        "classes": _Task("make_synthetic_classification", "a class each", "", "recipes/shapes_classifier.yaml"),
    }
)


def add_shapes(result: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    result.add_argument("folder", metavar="FOLDER", help="gets a folder for each task; the recipes look for 'shapes'")
    result.add_argument(
        "--task", choices=(*_TASKS, "all"), default="all", help="what the images are to be learned for (%(default)s)"
    )
    result.add_argument("--train", type=int, default=2000, metavar="N", help="images to train on (%(default)s)")
    result.add_argument("--val", type=int, default=200, metavar="N", help="images to evaluate on (%(default)s)")
    result.add_argument(
        "--size", type=int, metavar="PIXELS", help="width and height of every image (128; 64 for classes)"
    )
    result.add_argument("--seed", type=int, default=0, help="of the images (%(default)s)")


def draw_shapes(args: argparse.Namespace) -> int:
    """Draw what was asked for; all of it appears at the end, or nothing does.

    Raises:
        ConfigError: a number is out of range.
        OutputError: a dataset is there already, or the folder cannot be written.
    """
    from drivetrain.data.formats import synthetic
    from drivetrain.data.formats.new_folder import new_folder

    for name, least in (("train", 1), ("val", 1), ("size", synthetic.MIN_SIDE), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name} {value} must be at least {least}")
    numbers: dict[str, Any] = {"train": args.train, "val": args.val, "seed": args.seed}
    if args.size is not None:
        numbers["size"] = (args.size, args.size)
    tasks = [*_TASKS] if args.task == "all" else [args.task]
    with ExitStack() as folders:
        places = {task: folders.enter_context(new_folder(Path(args.folder, task))) for task in tasks}
        for task, place in places.items():
            started = time.monotonic()
            getattr(synthetic, _TASKS[task].function)(place, **numbers)
            counts = f"{args.train:,} + {args.val:,} images with {_TASKS[task].content}"
            took = f"drawn in {time.monotonic() - started:.0f} s"
            print(printable(f"{Path(args.folder, task)}: {counts}, {took}"), flush=True)
    print(printable(f"next: {_next_command(args.folder, tasks[0])}"))
    return 0


def _next_command(folder: str, task: str) -> str:
    """To train where a recipe finds the dataset, else to look at it."""
    recipe = _TASKS[task].recipe
    if recipe and Path(folder) == Path("shapes") and Path(recipe).exists():
        return f"drivetrain train --config-file {recipe} --output output/{Path(recipe).stem}"
    source = str(Path(folder, task, _TASKS[task].look))
    return shlex.join(["drivetrain", "data", "inspect", source, "--output", "sheet.jpg"])
